"""Finds out what stands still: a process that was stopped, a GPU that hangs, an event loop that is blocked."""

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

TICK_SECONDS = 0.5
# On a busy machine a batch takes long. Time in which the watched process or thread uses the processor counts by this part.
COMPUTING_WEIGHT = 0.25
# Who loads may wait for a disk, or for others, this many times longer than one that serves, if it uses no processor meanwhile.
LOADING_FACTOR = 3

log = structlog.get_logger()


class StallClock:
    """How long something has made no progress. It is asked every TICK_SECONDS, and knows no time but that between two questions: of
    a longer one, in which this process itself did not run, it counts two ticks."""

    def __init__(
        self,
        limit_seconds: float,
        cpu_seconds: Callable[[], float] = lambda: 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`cpu_seconds` that it has used so far, where that is a sign of work: for a GPU it is none."""
        self._limit_seconds = limit_seconds
        self._cpu_seconds = cpu_seconds
        self._now = now
        self._asked, self._cpu = now(), cpu_seconds()
        self._progress: object = None
        self._still_seconds = 0.0

    def stalled(self, progress: object) -> bool:
        """`progress` is something else whenever some was made; None: nothing is waited for."""
        now, cpu = self._now(), self._cpu_seconds()
        passed = min(now - self._asked, 2 * TICK_SECONDS) * (COMPUTING_WEIGHT if cpu > self._cpu else 1.0)
        same = progress is not None and progress == self._progress
        self._asked, self._cpu, self._progress = now, cpu, progress
        self._still_seconds = self._still_seconds + passed if same else 0.0
        return self._still_seconds >= self._limit_seconds


def cpu_of_process(pid: int) -> float:
    """Seconds of processor time; 0 where that is not known, or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_of_thread(thread: int) -> Callable[[], float]:
    """Tells its seconds of processor time; 0 where that is not known."""
    if sys.platform == "win32" or not hasattr(time, "pthread_getcpuclockid"):
        return lambda: 0.0
    clock = time.pthread_getcpuclockid(thread)
    return lambda: time.clock_gettime(clock)


@contextmanager
def watched_loop(limit_seconds: float) -> Iterator[None]:
    """Ends the process if its event loop is blocked: no call is answered any more."""
    ticks, done, thread = [0], threading.Event(), threading.get_ident()

    async def tick() -> None:
        while True:
            ticks[0] += 1
            await asyncio.sleep(TICK_SECONDS)

    def watch() -> None:
        clock = StallClock(limit_seconds, cpu_of_thread(thread))
        while not done.wait(TICK_SECONDS):
            if clock.stalled(ticks[0]):
                where = traceback.format_stack(sys._current_frames()[thread])[-1].strip().splitlines()[0]
                log.error("the event loop stands still: the process ends", seconds=limit_seconds, where=where)
                os._exit(1)

    ticking = asyncio.create_task(tick())
    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        ticking.cancel()
