"""What would bring an item into a list, or take it off. Every answer is a list that was computed."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np

from steersman.v1 import explanation_service_pb2 as pb
from steersman.v1.control_pb2 import CONTROL_SOURCE_REQUEST, OPERATION_ADD, Control
from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman_service.api.caller import Caller
from steersman_service.api.recommendation import Prepared, RecommendationService
from steersman_service.bundle.bundle import Array
from steersman_service.bundle.catalogue import NATURAL_RANGE
from steersman_service.bundle.items import UNKNOWN
from steersman_service.bundle.window import in_window
from steersman_service.engine.request import EngineRequest, EngineResult
from steersman_service.errors import FieldViolation, raise_if_any
from steersman_service.steering.changes import Candidate, ControlCandidates, eligible, margin, overlap
from steersman_service.steering.controls import ParsedControls

# Requests of one call.
MOST_IN_FLIGHT = 32
# Strengths that are tried first, and between two of them; so strengths are found to 0.01 of a natural maximum.
STRENGTHS, FINER_STRENGTHS = 20, 10
# Controls that are tried together, and how often others are tried if none of them does.
CONTROLS_TOGETHER, ROUNDS_OF_CONTROLS = 8, 12
MOST_EVENTS = 20
# After the first round, those events alone whose going told most in it are tried.
EVENTS_AGAIN = 32


class Asked(NamedTuple):
    """A request that was answered."""

    request: RecommendRequest
    prepared: Prepared
    listed: Sequence[int]
    """Item rows of the answer."""
    caller: Caller
    session: str
    """One key for all of the call, so that one engine computes it."""


class ComputedChange(NamedTuple):
    """A control at a strength, and the list under it."""

    control: Control
    rows_K: Array
    scores_K: Array


class Removal(NamedTuple):
    """A history without some events, and the list for it."""

    places: Sequence[int]
    """In the window."""
    rows_K: Array
    scores_K: Array
    """Of a list one longer than was asked for."""
    margin: float
    """Of the item above the first that is not in the list; infinite if all are. Minus infinity: it is not in it."""


async def submitted(
    service: RecommendationService, requests: Iterable[Callable[[], EngineRequest]], caller: Caller, session: str
) -> list[EngineResult]:
    """The results of many requests, in their order. After the first error the rest is not computed.

    Few are in flight at a time, at most half of the queue, and each is made when its turn comes: a mask and tilts of a large catalogue take
    megabytes.
    """
    room = asyncio.Semaphore(max(1, min(MOST_IN_FLIGHT, service.settings.queue_size // 2)))

    async def one(make: Callable[[], EngineRequest]) -> EngineResult:
        async with room:
            return await service.engines.submit(make(), caller.deadline, caller.tenant, session)

    tasks = [asyncio.create_task(one(make)) for make in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


@dataclass(frozen=True, eq=False)
class ChangeFinder:
    """Answers a ChangeQuery."""

    recommendation: RecommendationService

    def check(self, query: pb.ChangeQuery) -> Iterator[FieldViolation]:
        """What is wrong with a query, whatever the list is."""
        by = query.WhichOneof("by")
        if self.recommendation.release.items.places([query.item_id])[0] == UNKNOWN:
            yield FieldViolation("change.item_id", f"unknown item {query.item_id[:100]!r}; ListItems finds items")
        if by is None:
            yield FieldViolation("change", "names neither control, any_control nor events: give one of them")
        elif by != "control" and not getattr(query, by):
            yield FieldViolation(
                f"change.{by}", "is false: set it, or give another one of control, any_control, events"
            )
        elif by == "control":
            yield from self._check_control(query.control)

    async def find(self, query: pb.ChangeQuery, asked: Asked, scores_R: Array) -> pb.Change:
        """`scores_R`: of the list, of others, and last of the item. Raises InvalidRequest for events where it is not in the list."""
        row = int(self.recommendation.release.items.places([query.item_id])[0])
        by, inside = query.WhichOneof("by"), row in asked.listed
        if by == "events" and not inside:
            raise_if_any(
                [FieldViolation("change.events", "the item is not in the list: there is nothing to take it off")]
            )
        change = pb.Change(status=pb.CHANGE_STATUS_NOT_FOUND, was_in_list=inside)
        if not eligible(asked.prepared.interpretation.request, row):
            return change
        if by == "events":
            removal = await self._without_events(asked, row)
            if removal:
                self._tell(change, asked, removal.rows_K, removal.scores_K)
                change.event_places.extend(removal.places)
                ids_T, ids = asked.prepared.interpretation.request.ids_T, self.recommendation.release.items.ids
                change.event_item_ids.extend(ids[ids_T[place]] for place in removal.places)
            return change
        if by == "control":
            found = await self._by_control(query.control, asked, row)
        else:
            found = await self._by_any_control(asked, row, scores_R)
        if found:
            self._tell(change, asked, found.rows_K, found.scores_K)
            change.control.CopyFrom(found.control)
        return change

    def _check_control(self, control: Control) -> Iterator[FieldViolation]:
        (parsed,) = self._parsed(control).controls
        for field, why in parsed.problems:
            yield FieldViolation(f"change.control{field}", why)
        if parsed.stale and not parsed.problems:
            feature = control.feature
            field = "change.control.feature.bundle_version"
            self.recommendation.release.controls.check_version(field, feature.bundle_version, feature.id)
        if control.operation != OPERATION_ADD and not any(field == ".operation" for field, _ in parsed.problems):
            yield FieldViolation("change.control.operation", "must be ADD: the least strength of it is looked for")
        if control.HasField("goal"):
            yield FieldViolation("change.control.goal", "has no meaning here: the item is the goal; leave it out")

    def _parsed(self, control: Control) -> ParsedControls:
        return self.recommendation.release.controls.parse("change.control", CONTROL_SOURCE_REQUEST, [control])

    async def _by_control(self, control: Control, asked: Asked, row: int) -> ComputedChange | None:
        signs = (1, -1) if control.strength == 0 else (1 if control.strength > 0 else -1,)
        found = await self._least([Candidate(control, sign) for sign in signs], asked, row)
        return min(found, key=lambda one: abs(one.control.strength), default=None)

    async def _by_any_control(self, asked: Asked, row: int, scores_R: Array) -> ComputedChange | None:
        ranked = self._candidates.ranked(row, asked.listed, scores_R)[: CONTROLS_TOGETHER * ROUNDS_OF_CONTROLS]
        for begin in range(0, len(ranked), CONTROLS_TOGETHER):
            if found := await self._least(ranked[begin : begin + CONTROLS_TOGETHER], asked, row):
                # A concept rather than the feature that was made for it: its name is kept across trainings.
                return max(found, key=lambda one: (overlap(asked.listed, one.rows_K), one.control.HasField("concept")))
        return None

    @cached_property
    def _candidates(self) -> ControlCandidates:
        return ControlCandidates(self.recommendation.release.bundle, self.recommendation.release.catalogue)

    async def _least(self, candidates: Sequence[Candidate], asked: Asked, row: int) -> list[ComputedChange]:
        """Each candidate that does it, at its least strength: the first of a grid, then of a finer one below that."""
        wanted = row not in asked.listed
        most = min(NATURAL_RANGE, self.recommendation.release.controls.max_strength)
        step = most / STRENGTHS

        async def first(tried: Sequence[Sequence[Control]]) -> list[tuple[int, ComputedChange] | None]:
            """The first of each row of controls that does it, and its place."""
            computed = iter(await self._lists([control for controls in tried for control in controls], asked))
            rows = [[next(computed) for _ in controls] for controls in tried]
            return [
                next(((place, one) for place, one in enumerate(lists) if (row in one.rows_K) == wanted), None)
                for lists in rows
            ]

        grid = [[_at(one, step * n) for n in range(1, STRENGTHS + 1)] for one in candidates]
        coarse = [(one, hit) for one, hit in zip(candidates, await first(grid), strict=True) if hit]
        finer = [
            [_at(one, step * (place + n / FINER_STRENGTHS)) for n in range(1, FINER_STRENGTHS)]
            for one, (place, _) in coarse
        ]
        fine = await first(finer)
        return [hit[1] if hit else before for (_, (_, before)), hit in zip(coarse, fine, strict=True)]

    async def _lists(self, controls: Sequence[Control], asked: Asked) -> list[ComputedChange]:
        """The list of the request with each of `controls` added to its own."""
        service, prepared = self.recommendation, asked.prepared
        composed, loaded = service.release.controls.composed, prepared.loaded

        def under(control: Control) -> EngineRequest:
            steering = composed([*prepared.steering.controls, *self._parsed(control).controls])
            variant = service.interpreted(asked.request, loaded, steering, prepared.placement)
            return variant.interpretation.request

        makes = [partial(under, control) for control in controls]
        results = await submitted(service, makes, asked.caller, asked.session)
        return [
            ComputedChange(control, result.rows_K, result.scores_K)
            for control, result in zip(controls, results, strict=True)
        ]

    async def _without_events(self, asked: Asked, row: int) -> Removal | None:
        """Greedy: round by round the event goes that leaves the item nearest to falling off the list."""
        best = Removal([], np.array(asked.listed), np.zeros(0), float("inf"))
        remaining = list(range(len(asked.prepared.interpretation.request.ids_T)))
        while remaining and len(best.places) < MOST_EVENTS:
            removals = await self._removals([[*best.places, place] for place in remaining], asked, row)
            off = [one for one in removals if one.margin == -np.inf]
            if off:
                return max(off, key=lambda one: overlap(asked.listed, one.rows_K))
            removals.sort(key=lambda one: one.margin)
            best = removals[0]
            remaining = [one.places[-1] for one in removals[1 : 1 + EVENTS_AGAIN]]
        return None

    async def _removals(self, places: Sequence[Sequence[int]], asked: Asked, row: int) -> list[Removal]:
        """The history without the events at each of `places`, as if they had never been."""
        service, loaded = self.recommendation, asked.prepared.loaded
        controls, composed = asked.prepared.steering.controls, service.release.controls.composed
        indices_T, k = self._indices(asked), asked.prepared.interpretation.request.k

        def without(gone: Sequence[int]) -> EngineRequest:
            latest, total = loaded.history[:2]
            history = loaded.history._replace(
                places=np.delete(latest, indices_T[list(gone)]), total_events=total - len(gone)
            )
            changed, placement = loaded._replace(history=history), asked.prepared.placement
            variant = service.interpreted(asked.request, changed, composed(controls), placement)
            return variant.interpretation.request._replace(k=k + 1, grows=False)

        makes = [partial(without, gone) for gone in places]
        results = await submitted(service, makes, asked.caller, asked.session)
        return [
            Removal(gone, result.rows_K[:k], result.scores_K[:k], margin(result, row, k))
            for gone, result in zip(places, results, strict=True)
        ]

    def _indices(self, asked: Asked) -> Array:
        """Where in the history the events of the window are, unknown ones aside. (T)"""
        window = self.recommendation.release.bundle.manifest.window
        latest, total = asked.prepared.loaded.history[:2]
        shown = in_window(latest, total, window.length, window.stride)
        return len(latest) - len(shown) + np.flatnonzero(shown != UNKNOWN)

    def _tell(self, change: pb.Change, asked: Asked, rows_K: Array, scores_K: Array) -> None:
        change.status = pb.CHANGE_STATUS_FOUND
        change.overlap = overlap(asked.listed, rows_K)
        items = self.recommendation.release.items
        for row, score in zip(rows_K.tolist(), scores_K.tolist(), strict=True):
            change.items.add(item_id=items.ids[row], title=items.titles[row], score=score)


def _at(candidate: Candidate, magnitude: float) -> Control:
    control = Control()
    control.CopyFrom(candidate.control)
    control.strength = candidate.sign * magnitude
    return control
