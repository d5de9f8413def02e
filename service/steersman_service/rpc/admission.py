"""Which calls are taken. It is decided before they are parsed."""

from collections.abc import Callable, Sequence
from typing import Protocol

from steersman_service.errors import TooManyCalls
from steersman_service.rpc.refusals import QuickRefusal, too_near
from steersman_service.rpc.services import PACKAGE
from steersman_service.rpc.streams import StreamLimit
from steersman_service.scheduling.admission import CallLimit
from steersman_service.telemetry.metrics import CallType

# Their calls wait for an engine.
ENGINE_SERVICES = (f"{PACKAGE}.RecommendationService", f"{PACKAGE}.ExplanationService")
# Health checks have to be answered when nothing else can be.
HEALTH_PREFIX = "/grpc.health."
# Part of the time left that a call may be expected to wait for an engine: it has to be computed, too, and some wait longer than expected.
SHARE_OF_DEADLINE = 0.5


class Entrance(Protocol):
    """Of one method. `whose` is the tenant of a call, the connection of a stream."""

    def too_late(self, seconds_left: float) -> QuickRefusal | None:
        """Whether a call would be answered too late, before it is known whose it is."""

    def enter(self, whose: str) -> None:
        """`leave` has to follow. Raises TooManyCalls or TooManyStreams."""

    def leave(self, whose: str) -> None: ...


class CallEntrance:
    """Of a method that is no stream."""

    def __init__(self, limits: Sequence[CallLimit], wait_seconds: Callable[[], float] = lambda: 0.0) -> None:
        """`wait_seconds` is how long a call that comes now is expected to wait."""
        self._limits = limits
        self._wait_seconds = wait_seconds

    def too_late(self, seconds_left: float) -> QuickRefusal | None:
        wait = self._wait_seconds()
        return too_near(wait) if wait > SHARE_OF_DEADLINE * seconds_left else None

    def enter(self, whose: str) -> None:
        for place, limit in enumerate(self._limits):
            if not limit.enter(whose):
                for entered in self._limits[:place]:
                    entered.leave(whose)
                raise TooManyCalls()

    def leave(self, whose: str) -> None:
        for limit in self._limits:
            limit.leave(whose)


class Admission:
    def __init__(
        self, most_calls: int, most_engine_calls: int, most_streams: int, engine_wait_seconds: Callable[[], float]
    ) -> None:
        """At a time. Calls that wait for an engine count among all calls, too."""
        self._engine_wait_seconds = engine_wait_seconds
        self._calls, self._engine_calls = CallLimit(most_calls), CallLimit(most_engine_calls)
        self._streams = StreamLimit(most_streams)

    def of(self, kind: CallType, name: str) -> Entrance:
        """`name` is "/package.Service/Method"."""
        if kind != "unary":
            return self._streams
        if name.startswith(HEALTH_PREFIX):
            return CallEntrance(())
        service = name.removeprefix("/").partition("/")[0]
        if service not in ENGINE_SERVICES:
            return CallEntrance((self._calls,))
        return CallEntrance((self._calls, self._engine_calls), self._engine_wait_seconds)
