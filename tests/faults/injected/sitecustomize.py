"""Gives the looking processes decoders that fail as native code does: on files that say so in a JPEG comment.

And on films whose names say so, like film-hang.mp4, when they come to the frames from FILM_FAULT_MS on.

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


#: Within the second of a film's windows.
FILM_FAULT_MS = 400_000

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

    from contextlib import contextmanager

    from pinakes.jobs import watch

    _open_video = watch.open_video

    @contextmanager
    def _open_film(source, name, *more):
        with _open_video(source, name, *more) as video:
            said = re.search(r"-(\w+)\.mp4$", name)
            yield _Film(video, said[1]) if said else video

    class _Film:
        def __init__(self, video, fault):
            self.facts, self.windows, self._video, self._fault = video.facts, video.windows, video, fault

        def frames(self, *sample, **more):
            for frame in self._video.frames(*sample, **more):
                if frame.frame_ms == FILM_FAULT_MS:
                    _strike(self._fault)
                yield frame

    watch.open_video = _open_film
