"""Keeps the decoders' own chatter off the terminal: C libraries write to file descriptor 2, Pillow raises warnings.

"Corrupt JPEG data: 2 extraneous bytes" with no file name is of no use among a million pictures.
"""

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_lock = threading.Lock()
_inside = 0
_saved = -1


@contextmanager
def quiet() -> Iterator[None]:
    """Drops what is written to file descriptor 2, and Python warnings, while the block runs.

    It holds for the whole process, so what another thread prints there meanwhile is lost too: keep the block to the
    decoder call. Threads may be inside at the same time; the last one out restores the descriptor.
    """
    _enter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _saved
    with _lock:
        _inside += 1
        if _inside > 1:
            return
        with suppress(Exception):  # what Python has buffered for stderr belongs before the silence
            sys.stderr.flush()
        try:
            _saved = os.dup(2)
        except OSError:  # a daemon may have closed it; then nothing can be printed either
            _saved = -1
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0 and _saved >= 0:
            os.dup2(_saved, 2)
            os.close(_saved)
