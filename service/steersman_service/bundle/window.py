"""Which part of a long history the recommender sees."""

from collections.abc import Sequence
from typing import Any, TypeVar

from steersman_service.bundle.bundle import Array

Events = TypeVar("Events", Sequence[Any], Array)


def window_start(total_events: int, length: int, stride: int) -> int:
    """Index of the first event that is shown: proto/README.md, "The window".

    A function of the count alone, which moves `stride` events at a time: a shortened history and one whose states are cached have the
    window of the whole one.
    """
    if total_events <= length:
        return 0
    return -((length - total_events) // stride) * stride


def in_window(latest: Events, total_events: int, length: int, stride: int) -> Events:
    """The part of `latest`, the last of `total_events` events, that lies inside the window."""
    dropped = total_events - len(latest)
    return latest[max(0, window_start(total_events, length, stride) - dropped) :]
