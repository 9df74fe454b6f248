"""Gives the looking processes a decoder that fails as native code does: on files that say so in a JPEG comment.

Python imports this at its start, as the folder is on PYTHONPATH. Every strike is noted in the file FAULTS_LOG.
"""

import os
import re
import resource
import signal
import sys
import time

#: Enough to pass any limit that a test sets, and little enough to harm nobody if the limit is not kept.
MOST_MEMORY = 3 * 2**30


def _strike(fault: str) -> None:
    before = _strikes(fault)
    with open(os.environ["FAULTS_LOG"], "a") as log:
        log.write(f"{fault}\n")
    match fault:
        case "segv_once" if before:
            pass
        case "segv" | "segv_once":
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.kill(os.getpid(), signal.SIGSEGV)
        case "memory":
            taken = []
            while len(taken) * 2**25 < MOST_MEMORY:
                taken.append(b"\xff" * 2**25)
                time.sleep(0.01)
            time.sleep(600)
        case "hang":
            while True:
                pass
        case "worker":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(600)


def _strikes(fault: str) -> int:
    try:
        with open(os.environ["FAULTS_LOG"]) as log:
            return log.read().split().count(fault)
    except FileNotFoundError:
        return 0


if "pinakes.jobs.looker_process" in sys.orig_argv:
    if os.environ.get("FAULTS_AT_START"):
        _strike("segv")

    import cv2

    _decode = cv2.imdecode

    def _imdecode(data, flags):
        said = re.search(rb"fault:(\w+);", bytes(data[:64]))
        if said:
            _strike(said[1].decode())
        return _decode(data, flags)

    cv2.imdecode = _imdecode
