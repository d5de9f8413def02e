"""How the kernel shares cores among the threads of a server."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def patient() -> Iterator[None]:
    """Threads that are started meanwhile wait for a core that is free, instead of taking it from whoever runs when they are woken.

    gRPC's own are woken several times a call, to hand one event each to the event loop. Taking its core, they would have it look at every
    event by itself. What they start is as they are. Linux alone; where it may not be done, or somebody has chosen another policy than the
    ordinary one, nothing is.
    """
    if not _is_ordinary():
        yield
        return
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _is_ordinary() -> bool:
    """How this thread is scheduled, if the system tells."""
    with suppress(AttributeError, OSError):
        return os.sched_getscheduler(0) == os.SCHED_OTHER
    return False
