"""How the kernel shares cores among the threads of a server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def patient() -> Iterator[None]:
    """Threads that are started meanwhile wait for a core that is free, instead of taking it from whoever runs when they are woken.

    gRPC's own are woken several times a call, to hand one event each to the event loop. Taking its core, they would have it look at every
    event by itself. What they start is as they are. Linux alone; where it may not be done, nothing is.
    """
    if not hasattr(os, "SCHED_BATCH"):
        yield
        return
    before = os.sched_getscheduler(0)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, before, os.sched_param(0))
