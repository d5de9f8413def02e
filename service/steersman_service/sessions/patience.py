"""The deadline of the call that is being answered."""

from contextvars import ContextVar

DEADLINE: ContextVar[float] = ContextVar("DEADLINE", default=float("inf"))
"""In seconds of `time.monotonic()`. The store is not waited for beyond it."""
