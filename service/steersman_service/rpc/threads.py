"""Scheduling policy of gRPC's threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def patient() -> Iterator[None]:
    """Threads started inside get SCHED_BATCH: when woken, they wait for a free core instead of preempting a running thread.

    gRPC wakes its threads several times a call, to hand one event each to the event loop; preempted, the loop would handle every event by
    itself. Their own children inherit it. Does nothing beside Linux, where it is not permitted, or where another policy was chosen.
    """
    if not _has_default_policy():
        yield
        return
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _has_default_policy() -> bool:
    with suppress(AttributeError, OSError):
        return os.sched_getscheduler(0) == os.SCHED_OTHER
    return False
