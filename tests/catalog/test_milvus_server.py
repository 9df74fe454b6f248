"""The Milvus server of the tests: it answers, two run side by side, and nothing of them is left behind."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from pymilvus import MilvusClient

from tests.milvus_server import milvus_server, serve

#: A test run of its own, that will be killed.
ANOTHER = """
import sys, time
from pathlib import Path
from tests.milvus_server import serve
with serve(Path(sys.argv[1])) as (uri, pid):
    print(uri, pid, flush=True)
    time.sleep(600)
"""


def test_two_servers_answer_and_end_with_a_test_that_fails_or_is_killed(tmp_path):
    here, ours = Path.cwd(), []

    def use(other):
        with serve(tmp_path / "ours") as (uri, pid):
            ours.append(psutil.Process(pid))
            MilvusClient(uri).create_collection("people", dimension=4)
            assert MilvusClient(uri).list_collections() == ["people"]
            assert MilvusClient(other.stdout.readline().split()[0]).list_collections() == []
            raise ZeroDivisionError

    command = [sys.executable, "-c", ANOTHER, str(tmp_path / "theirs")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        with pytest.raises(ZeroDivisionError):
            use(other)
        assert not ours[0].is_running()
        if sys.platform == "linux":  # elsewhere nothing ends with the process that started it
            theirs = psutil.Process(other.pid).children()
            assert len(theirs) == 1
            other.kill()
            assert not psutil.wait_procs(theirs, timeout=5)[1]
    assert Path.cwd() == here


def test_a_server_that_does_not_start_says_why(tmp_path):
    with (
        pytest.raises(RuntimeError, match=r"(?s)Milvus stopped with status.*mq type"),
        milvus_server(tmp_path, {"mq.type": "pigeon"}),
    ):
        pass
