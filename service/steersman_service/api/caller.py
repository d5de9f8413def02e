"""Who calls, and until when."""

import time
from typing import NamedTuple


class Caller(NamedTuple):
    """What a handler knows of a call beside its request."""

    deadline: float = float("inf")
    """In seconds of `time.monotonic()`: the caller's, or else the server's own."""
    tenant: str = ""
    """Whose share of the queue the call takes; calls without one share one."""
    request_id: str = ""
    """The caller's, or one made for the call."""
    bundle_version: str = ""
    """The release that shall answer; empty: any."""

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()
