"""Until when the session store is waited for."""

import time
from contextvars import ContextVar

STORE_SHARE = 0.75
"""Of the time that a call has: what is left answers it without the store, from its fallback history."""

DEADLINE: ContextVar[float] = ContextVar("DEADLINE", default=float("inf"))
"""In seconds of `time.monotonic()`, for all that the call at hand asks of the store."""


def be_patient(seconds: float) -> None:
    """For a call that has so much time."""
    DEADLINE.set(time.monotonic() + STORE_SHARE * seconds)
