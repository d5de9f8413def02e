"""The releases that a front end holds, and which of them answers a call."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from typing import Any

from steersman.v1.explanation_service_pb2 import ExplainRequest
from steersman.v1.feature_service_pb2 import GetFeatureRequest, ListNeighboursRequest, SetLabelRequest
from steersman.v1.recommendation_service_pb2 import BatchRecommendRequest, RecommendRequest
from steersman.v1.scenario_service_pb2 import PutScenarioRequest
from steersman.v1.session_service_pb2 import SetControlsRequest
from steersman_service.api.caller import Caller
from steersman_service.api.release import Release
from steersman_service.errors import BundleNotServed
from steersman_service.scheduling.client import Engines

STABLE, CANARY = "stable", "canary"
# Of a request that has not been checked: one of more is refused.
MOST_LOOKED_AT = 10_000
COUNTED = ("RecommendationService", "ExplanationService")

Behaviour = Callable[[Any, Caller], Awaitable[Any]]
Observe = Callable[[str, bool, float], None]


class HeldRelease:
    """One release with its engines and handlers, and the calls that it answers."""

    def __init__(self, release: Release, engines: Engines, handlers: Mapping[str, object]) -> None:
        """`handlers` of every service, by its name."""
        self.release = release
        self.engines = engines
        self.handlers = handlers
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around a call that it answers."""
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def idle(self) -> None:
        """Waits until it answers no call."""
        await self._idle.wait()


class Channels:
    """Gives each call, whole, to the stable release or to the canary."""

    def __init__(self, stable: HeldRelease, observe: Observe = lambda channel, ok, seconds: None) -> None:
        """`observe` is told of the calls for items: the channel, whether they were answered, and how long that took."""
        self.stable = stable
        self.canary: HeldRelease | None = None
        self.share = 0.0
        self.changed = asyncio.Event()
        """Set when another release answers."""
        self._observe = observe

    def route(self, stable: HeldRelease, canary: HeldRelease | None = None, share: float = 0.0) -> None:
        """From now on. Calls in flight stay where they are. `share` of the canary, 0 to 1."""
        self.stable, self.canary, self.share = stable, canary, share
        self.changed.set()

    def choose(self, request: Any, caller: Caller) -> HeldRelease:
        """The release that answers. Raises BundleNotServed for a version in the call's metadata that neither has."""
        stable, canary = self.stable, self.canary
        served = [held for held in (stable, canary) if held]
        if caller.bundle_version:
            for held in served:
                if held.release.version == caller.bundle_version:
                    return held
            raise BundleNotServed([held.release.version for held in served])
        if canary is None:
            return stable
        named = versions_named(request)
        for held in served:
            if held.release.version in named:
                return held
        # Its engines may all be gone for a while. A trial must not cost an answer.
        if self.share and canary.engines.alive and drawn(canary.release.version, request, caller.tenant) < self.share:
            return canary
        return stable

    def behaviour(self, service: str, method: str) -> Behaviour:
        """A method of the contract, as the release answers it that is chosen for each call."""
        counted = service in COUNTED

        async def answer(request: Any, caller: Caller) -> Any:
            held = self.choose(request, caller)
            begun, ok = time.perf_counter(), False
            with held.call():
                try:
                    answered = await getattr(held.handlers[service], method)(request, caller)
                    ok = True
                finally:
                    if counted:
                        # It may have been promoted meanwhile.
                        channel = CANARY if held is self.canary else STABLE
                        self._observe(channel, ok, time.perf_counter() - begun)
            return answered

        return answer


def drawn(version: str, request: Any, tenant: str) -> float:
    """0 to 1, the same for the same session; without one, for the same history. 1 for calls that have neither. `version` is the canary's:
    another one draws anew."""
    key = _key(request)
    if key is None:
        return 1.0
    digest = blake2b(b"\0".join((tenant.encode(), *key)), key=version.encode()[:64], digest_size=8)
    return int.from_bytes(digest.digest()) / 2**64


def _key(request: Any) -> tuple[bytes, bytes] | None:
    """What keeps to one release."""
    if isinstance(request, SetControlsRequest):
        return b"session", request.session_id.encode()
    if isinstance(request, BatchRecommendRequest) and request.requests:
        request = request.requests[0]
    elif isinstance(request, ExplainRequest):
        request = request.request
    if not isinstance(request, RecommendRequest):
        return None
    if request.session_id:
        return b"session", request.session_id.encode()
    if request.history.item_ids:
        return b"history", "\0".join(request.history.item_ids).encode()
    return (b"request", request.request_id.encode()) if request.request_id else None


def versions_named(request: Any) -> set[str]:
    """Bundle versions that come with the features of a request."""
    match request:
        case GetFeatureRequest() | SetLabelRequest():
            return {request.bundle_version}
        case ListNeighboursRequest():
            return {request.feature.bundle_version}
        case BatchRecommendRequest():
            return {version for each in islice(request.requests, MOST_LOOKED_AT) for version in versions_named(each)}
        case ExplainRequest():
            return versions_named(request.request)
        case PutScenarioRequest():
            return versions_named(request.scenario)
    return {
        control.feature.bundle_version
        for control in islice(getattr(request, "controls", ()), MOST_LOOKED_AT)
        if control.WhichOneof("target") == "feature"
    }
