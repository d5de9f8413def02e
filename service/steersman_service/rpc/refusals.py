"""Refusals that cost little, for there may be many more of them than of answers: made once, and logged by the second."""

import asyncio
from collections import Counter
from functools import lru_cache
from math import ceil
from random import getrandbits
from typing import Any

import grpc
import structlog

from steersman_service.errors import DeadlineTooNear, RequestError, TooManyCalls, TooManyStreams
from steersman_service.rpc.status import grpc_status

DETAILS = "grpc-status-details-bin"
# Stands for the request id, and is as long as one.
PLACEHOLDER = "0123456789abcdef" * 2
LOG_SECONDS = 1.0
TENTHS = 10
LONGEST_SECONDS = 10.0


class QuickRefusal:
    """An error before a call is parsed. Each answer has a request id of its own."""

    def __init__(self, error: RequestError) -> None:
        self.error = error
        status = grpc_status(error, PLACEHOLDER)
        self.code, self._message = status.code, error.message
        sent = dict(status.trailing_metadata or ())
        details = sent.pop(DETAILS)
        assert isinstance(details, bytes)
        self._before, self._after = details.split(PLACEHOLDER.encode())
        self._rest = tuple(sent.items())

    async def answer(self, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        """Raises AbortError."""
        details = self._before + f"{getrandbits(128):032x}".encode() + self._after
        await context.abort(self.code, self._message, ((DETAILS, details), *self._rest))


TOO_MANY_CALLS = QuickRefusal(TooManyCalls())
QUICK: dict[type[RequestError], QuickRefusal] = {
    TooManyCalls: TOO_MANY_CALLS,
    TooManyStreams: QuickRefusal(TooManyStreams()),
}
"""Of errors that are always the same."""


def too_near(expected_seconds: float) -> QuickRefusal:
    """Of a call whose answer would come too late."""
    return _too_near(ceil(TENTHS * min(expected_seconds, LONGEST_SECONDS)))


@lru_cache
def _too_near(tenths: int) -> QuickRefusal:
    retry = max(1, tenths) / TENTHS
    return QuickRefusal(
        DeadlineTooNear(f"answers take about {retry:g} s now, too long for its deadline", retry_seconds=retry)
    )


class RefusalLog:
    """A line a second, with how many there were."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._log = structlog.get_logger().bind()

    def add(self, error: RequestError) -> None:
        if not self._counts:
            asyncio.get_running_loop().call_later(LOG_SECONDS, self._tell)
        self._counts[error.reason] += 1

    def _tell(self) -> None:
        for reason, calls in self._counts.items():
            self._log.info("calls refused", reason=reason, calls=calls)
        self._counts.clear()
