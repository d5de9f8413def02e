"""Computes the lists that goals and receipts need: each round of a search is one request of the engine, with variants."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from steersman.v1.recommendation_service_pb2 import Receipt
from steersman_service.api.caller import Caller
from steersman_service.api.release import Release
from steersman_service.engine.request import EngineRequest, EngineResult
from steersman_service.scheduling.client import Engines
from steersman_service.steering.control import ParsedControl
from steersman_service.steering.eligibility import SMALL_MASK
from steersman_service.steering.goal_search import Parts, Solution, Trial, search
from steersman_service.steering.receipts import receipt
from steersman_service.steering.steering import Steering


class Solved(NamedTuple):
    steering: Steering
    """At the strengths that were found."""
    result: EngineResult
    receipt: Receipt | None
    """None: it was not asked for."""


class Solver:
    """Finds the strengths of one request's goals, and makes out its receipt."""

    def __init__(
        self,
        release: Release,
        engines: Engines,
        steering: Steering,
        request: EngineRequest,
        caller: Caller,
        session: str,
    ) -> None:
        """Equal `session`s reach one engine."""
        self._release, self._engines = release, engines
        self._controls, self._request = steering.controls, request
        self._caller, self._session = caller, session
        self._goals = steering.goals
        self._queue_seconds = self._inference_seconds = 0.0
        """Of all rounds so far."""

    async def solve(self, *, with_receipt: bool = True) -> Solved:
        """Errors are those of `Engines.submit`."""
        # Of a large catalogue it costs more than the list: then it is computed of the answer alone, unless a goal bounds it.
        small = with_receipt and len(self._release.items) <= SMALL_MASK
        plain, best = await self._search(
            divergence=small or any(goal.kind == "most_divergence" for goal in self._goals)
        )
        if not with_receipt:
            return Solved(best.steering, self._timed(best.result), None)
        divergence = best.result.divergence
        if divergence is None:
            (again,) = await self._computed([best.steering], divergence=True)
            divergence = again.divergence
        assert divergence is not None
        release = self._release
        told = receipt(self._controls, Solution(plain, best), divergence, release.catalogue, release.items)
        return Solved(best.steering, self._timed(best.result), told)

    def _timed(self, result: EngineResult) -> EngineResult:
        """With the times of all rounds."""
        return result._replace(queue_seconds=self._queue_seconds, inference_seconds=self._inference_seconds)

    async def _search(self, *, divergence: bool) -> Solution:
        searching = search(self._goals)
        asked = next(searching)
        while True:
            steerings = [self._steering(parts_G) for parts_G in asked]
            results = await self._computed(steerings, divergence=divergence)
            trials = [
                Trial(parts_G or (), steering, result, result.rows_K)
                for parts_G, steering, result in zip(asked, steerings, results, strict=True)
            ]
            try:
                asked = searching.send(trials)
            except StopIteration as stopped:
                solution: Solution = stopped.value
                return solution

    async def _computed(self, steerings: Sequence[Steering], *, divergence: bool) -> list[EngineResult]:
        """One round."""
        first, *others = (steering.variant for steering in steerings)
        request = first.of(self._request)._replace(divergence=divergence, variants=others)
        result = await self._engines.submit(request, self._caller.deadline, self._caller.tenant, self._session)
        self._queue_seconds += result.queue_seconds
        self._inference_seconds += result.inference_seconds
        variants = (variant._replace(batch_size=result.batch_size) for variant in result.variants)
        return [result, *variants]

    def _steering(self, parts_G: Parts | None) -> Steering:
        """All controls, with their goals at parts of their bounds; None: no control."""
        if parts_G is None:
            return self._release.controls.composed(())
        left = iter(parts_G)
        return self._release.controls.composed([self._at(control, left) for control in self._controls])

    def _at(self, control: ParsedControl, left: Iterator[float]) -> ParsedControl:
        if control.goal is None:
            return control
        return self._release.controls.at_strength(control, next(left) * control.goal.bound)


def history_session(request: EngineRequest) -> str:
    """In place of a session's id: requests on one history reach one engine, where its state is kept."""
    return f"history {crc32(request.ids_T.tobytes())}"
