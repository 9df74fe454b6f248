"""Ray clusters of several nodes on this machine, a run on one, and an operator that says where it looked."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

PINAKES = Path(sys.executable).with_name("pinakes")
#: Longer than anything takes on a busy machine; what is not over then never ends.
NEVER_S = 120
#: Pictures that each node looks at before it waits for the gate to open.
FREE = 8
OBJECT_STORE_BYTES = 80 * 2**20

_OPERATOR = f'''
import os
import time
from pathlib import Path

import pyarrow as pa

from pinakes.operators.operator import PICTURE, Operator

SCHEMA = pa.schema([pa.field("node", pa.string())])


class Nodes(Operator):
    """Fills `nodes`: by which node a picture was looked at."""

    name = "nodes"
    tables = {{"nodes": SCHEMA}}

    def look(self, pictures):
        # Ray tells a worker the process that stands for its node; what a worker starts inherits that.
        node, gate = os.environ["RAY_RAYLET_PID"], Path(os.environ["NODES_GATE"])
        with open(gate / node, "a+") as looked:
            looked.write("picture\\n" * len(pictures))
            looked.flush()
            looked.seek(0)
            free = len(looked.readlines()) <= {FREE}
        while not free and not (gate / "open").exists():
            time.sleep(0.02)
        rows = {{"picture": range(len(pictures)), "node": [node] * len(pictures)}}
        return {{"nodes": pa.table(rows, schema=pa.schema([PICTURE, *SCHEMA]))}}
'''


def install_operator(site: Path, module: str, code: str, operators: dict[str, str]) -> dict[str, str]:
    """Put a module of operators into a folder, with their entry points; the environment in which they are installed."""
    installed = site / f"{module}-1.0.dist-info"
    installed.mkdir(parents=True)
    (site / f"{module}.py").write_text(code)
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"{name} = {place}" for name, place in operators.items()]
    (installed / "entry_points.txt").write_text("\n".join(["[pinakes.operators]", *lines, ""]))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))}


class Gate:
    """Where the operator `nodes` notes what each node has looked at and where it waits to be let through."""

    def __init__(self, folder: Path) -> None:
        """Install the operator in a folder, too."""
        self.folder = folder / "gate"
        self.site = folder / "site"
        self.folder.mkdir(parents=True)
        installed = install_operator(self.site, "nodes_operator", _OPERATOR, {"nodes": "nodes_operator:Nodes"})
        self.environment = {**installed, "NODES_GATE": str(self.folder)}

    def waiting(self) -> set[str]:
        """The nodes that wait, or soon will."""
        return {file.name for file in self.folder.iterdir() if len(file.read_text().splitlines()) > FREE}

    def open(self) -> None:
        (self.folder / "open").touch()


@contextmanager
def cluster(**head: Any) -> Iterator[Cluster]:
    """A head with one CPU; nodes that are added get the environment that this process has by then."""
    made = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
            **head,
        },
    )
    try:
        yield made
    finally:
        made.shutdown()


def raylet(node: Any) -> str:
    """The node's name as the operator `nodes` writes it."""
    return str(node.all_processes["raylet"][0].process.pid)


def wait(condition: Callable[[], Any], run: "subprocess.Popen[str]", what: str) -> None:
    """Wait until it holds while the run goes on."""
    until = time.monotonic() + NEVER_S
    while not condition():
        assert run.poll() is None, f"the run ended before {what}"
        assert time.monotonic() < until, f"never: {what}"
        time.sleep(0.1)
