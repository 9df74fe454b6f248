"""The command `pinakes`: as a process, as its users meet it, or in this one, which saves the start of a process."""

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from pinakes.jobs.cli import app, guarded

PINAKES = Path(sys.executable).with_name("pinakes")


def pinakes(*words: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [PINAKES, *map(str, words)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=240,
    )


def here(*words: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in this process, where all that it needs is imported."""
    said = [io.TextIOWrapper(io.BytesIO(), "utf-8", "surrogateescape", write_through=True) for _ in range(2)]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said[0]), redirect_stderr(said[1]):
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(cwd or Path.cwd())
        try:
            code = guarded(lambda: app([*map(str, words)], prog_name="pinakes", standalone_mode=False))
        finally:
            signal.signal(signal.SIGTERM, before)
    out, err = (one.buffer.getvalue().decode(errors="surrogateescape") for one in said)  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(words, code, out, err)


def refused(code: int, *words: object, cwd: Path | None = None, **environment: str) -> str:
    """The only line that a command says before it ends with that code."""
    done = here(*words, cwd=cwd, **environment)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line
