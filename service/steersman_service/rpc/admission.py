"""Which calls are taken. It is decided before they are parsed."""

import time
from collections.abc import Sequence
from typing import Protocol

from steersman_service.errors import TooManyCalls
from steersman_service.rpc.refusals import QuickRefusal, too_near
from steersman_service.rpc.services import PACKAGE
from steersman_service.rpc.streams import StreamLimit
from steersman_service.scheduling.admission import AnswerEstimate, CallLimit
from steersman_service.telemetry.metrics import CallType

# Their calls wait for an engine.
ENGINE_SERVICES = (f"{PACKAGE}.RecommendationService", f"{PACKAGE}.ExplanationService")
# Health checks have to be answered when nothing else can be.
HEALTH_PREFIX = "/grpc.health."


class Entrance(Protocol):
    """Of one method. `whose` is the tenant of a call, the connection of a stream."""

    def too_late(self, seconds_left: float) -> QuickRefusal | None:
        """Whether a call would be answered too late, before it is known whose it is."""

    def enter(self, whose: str) -> None:
        """`leave` has to follow. Raises TooManyCalls or TooManyStreams."""

    def leave(self, whose: str, *, answered: bool) -> None:
        """`answered`: errors end sooner, and say nothing of how many calls can be answered."""


class CallEntrance:
    """Of a method that is no stream."""

    def __init__(self, limits: Sequence[CallLimit]) -> None:
        self._limits = limits
        self._estimate = AnswerEstimate()

    def too_late(self, seconds_left: float) -> QuickRefusal | None:
        admitted = not self._limits or self._estimate.admits(seconds_left)
        return None if admitted else too_near(self._estimate.seconds)

    def enter(self, whose: str) -> None:
        for place, limit in enumerate(self._limits):
            if not limit.enter(whose):
                for entered in self._limits[:place]:
                    entered.leave(whose)
                raise TooManyCalls()
        self._estimate.begin(time.monotonic())

    def leave(self, whose: str, *, answered: bool) -> None:
        for limit in self._limits:
            limit.leave(whose)
        self._estimate.end(time.monotonic(), answered=answered)


class Admission:
    def __init__(self, most_calls: int, most_engine_calls: int, most_streams: int) -> None:
        """At a time. Calls that wait for an engine count among all calls, too."""
        self._calls, self._engine_calls = CallLimit(most_calls), CallLimit(most_engine_calls)
        self._streams = StreamLimit(most_streams)

    def of(self, kind: CallType, name: str) -> Entrance:
        """`name` is "/package.Service/Method"."""
        if kind != "unary":
            return self._streams
        if name.startswith(HEALTH_PREFIX):
            return CallEntrance(())
        service = name.removeprefix("/").partition("/")[0]
        return CallEntrance((self._calls, self._engine_calls) if service in ENGINE_SERVICES else (self._calls,))
