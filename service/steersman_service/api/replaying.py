"""What scenarios do to lists: measured when they are put, and again on the same histories with another bundle.

Dimensions: H histories, K top-k.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from steersman.v1 import scenario_service_pb2 as pb
from steersman_service.api.caller import Caller
from steersman_service.api.composing import composed
from steersman_service.api.placement import Placement, read_scenario
from steersman_service.api.release import Release
from steersman_service.api.solving import Solver, history_session
from steersman_service.bundle.histories import sample_histories
from steersman_service.bundle.items import Items, Rows
from steersman_service.engine.request import EngineRequest, EngineResult, Variant
from steersman_service.errors import InvalidRequest, RequestError, StaleFeature, raise_if_any
from steersman_service.scheduling.client import Engines
from steersman_service.sessions.measurements import Histories, KeptEffect, Measured, Measurement
from steersman_service.sessions.scenarios import ScenarioStore
from steersman_service.steering.composition import asks_for_anything, plan
from steersman_service.steering.effects import OVERLAP, CountedSet, counted_sets, interval
from steersman_service.steering.interpret import ItemHistory, interpret
from steersman_service.steering.shares import overlap
from steersman_service.steering.steering import Steering

K = 10
MOST_HISTORIES = 64
# Histories of one scenario that are under way at a time: a small part of the queue.
AT_ONCE = 8
# Of a put: the rest of its time is the store's.
MOST_PUT_SECONDS, PUT_PART = 5.0, 0.5


class Lists(NamedTuple):
    """The lists for one history."""

    plain_K: Rows
    """Under the scenario's filters alone."""
    rows_K: Rows


@dataclass(frozen=True)
class ScenarioReplays:
    """Measures scenarios with one release and its engines."""

    release: Release
    engines: Engines
    store: ScenarioStore
    max_filter_items: int

    async def measured(self, scenario: pb.Scenario, caller: Caller) -> Measured | None:
        """What a checked scenario does, for at most half of the caller's time. None: that could not be measured."""
        left = min(MOST_PUT_SECONDS, PUT_PART * caller.seconds_left)
        caller = caller._replace(deadline=time.monotonic() + left)
        try:
            async with asyncio.timeout(left):
                samples = sample_histories(self.release.bundle, self.release.items, MOST_HISTORIES)
                histories = [sample.item_ids for sample in samples]
                return await self.measure(scenario, histories, caller)
        # A RuntimeError is that of an engine that failed, which its queue has logged.
        except (RequestError, RuntimeError, TimeoutError):
            return None

    async def measure(self, scenario: pb.Scenario, histories: Histories, caller: Caller) -> Measured:
        """What a checked scenario does now. Errors are those of `Engines.submit`."""
        placement, steering = self._read(scenario)
        lists_H = await self._lists(placement, steering, histories, caller)
        release = self.release
        counted = counted_sets(scenario, release.version, release.catalogue, release.items)
        effects = [KeptEffect(OVERLAP, _overlaps(lists_H))]
        effects += [KeptEffect(one.name, _shares(one, lists_H, release.items), *one[1:]) for one in counted]
        return Measured(release.version, histories, effects)

    async def replay(self, name: str, caller: Caller) -> pb.ScenarioReplay | None:
        """None: there is no such scenario. Raises StoreUnavailable; other errors are those of `Engines.submit`."""
        kept = await self.store.measured(name)
        if kept is None:
            return None
        scenario, measurement = kept
        replay = pb.ScenarioReplay(name=name, version=scenario.version, status=pb.REPLAY_STATUS_NOTHING_TO_COMPARE)
        if measurement is not None:
            replay.bundle_version_before = measurement.bundle_version
        try:
            placement, steering = self._read(scenario)
        except (InvalidRequest, StaleFeature) as error:
            replay.status, replay.problem = pb.REPLAY_STATUS_BROKEN, error.message
            return replay
        if measurement is not None:
            await self._compare(replay, measurement, placement, steering, caller)
        return replay

    async def _compare(
        self,
        replay: pb.ScenarioReplay,
        measurement: Measurement,
        placement: Placement,
        steering: Steering,
        caller: Caller,
    ) -> None:
        """Fills effects and status."""
        if measurement.bundle_version == self.release.version:
            replay.histories = len(measurement.effects[0].values_H)
            replay.effects.extend(_effect(kept, kept.values_H) for kept in measurement.effects)
            return
        histories = await self.store.histories(measurement.source)
        if histories is None:
            return  # put again, or deleted, meanwhile
        lists_H = await self._lists(placement, steering, histories, caller)
        replay.histories = len(histories)
        for kept in measurement.effects:
            now_H = _overlaps(lists_H) if kept.name == OVERLAP else _shares(_set_of(kept), lists_H, self.release.items)
            replay.effects.append(_effect(kept, now_H))
        moved = any(effect.outside for effect in replay.effects)
        replay.status = pb.REPLAY_STATUS_MOVED if moved else pb.REPLAY_STATUS_HELD

    def _read(self, scenario: pb.Scenario) -> tuple[Placement, Steering]:
        """Raises InvalidRequest, or StaleFeature, if it does not fit the bundle."""
        placement, wrong = read_scenario(scenario, self.release, self.max_filter_items)
        raise_if_any(wrong)
        return placement, self.release.controls.steer(placement.controls)

    async def _lists(
        self, placement: Placement, steering: Steering, histories: Histories, caller: Caller
    ) -> list[Lists]:
        """Of each history. The first error ends all."""
        free = asyncio.Semaphore(AT_ONCE)

        async def one(history: Sequence[str]) -> Lists:
            async with free:
                return await self._of_history(placement, steering, history, caller)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(history)) for history in histories]
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _of_history(
        self, placement: Placement, steering: Steering, history: Sequence[str], caller: Caller
    ) -> Lists:
        release, items = self.release, self.release.items
        request = interpret(
            items,
            release.bundle.manifest.window,
            ItemHistory(items.places(history), len(history)),
            steering,
            placement.filters,
            K,
            grows=False,
        ).request
        session = history_session(request)

        async def submit(asked: EngineRequest) -> EngineResult:
            return await self.engines.submit(asked, caller.deadline, caller.tenant, session)

        if steering.has_goals:
            solved = await Solver(release, self.engines, steering, request, caller, session).solve()
            request = solved.steering.variant.of(request)
        composition = placement.composition
        planned = plan(composition, request, items) if asks_for_anything(composition) else None
        if planned is not None:
            request = request._replace(k=planned.candidates)
        result = await submit(request._replace(variants=[Variant()]))
        plain_K = result.variants[0].rows_K[:K]
        if planned is not None:
            result, _ = await composed(planned, request, result, submit, release)
        return Lists(plain_K, result.rows_K)


def _overlaps(lists_H: Iterable[Lists]) -> list[float]:
    return [overlap(lists.plain_K, lists.rows_K) for lists in lists_H]


def _shares(counted: CountedSet, lists_H: Iterable[Lists], items: Items) -> list[float]:
    subject = counted.subject(items)
    return [subject.share(lists.rows_K) for lists in lists_H]


def _set_of(kept: KeptEffect) -> CountedSet:
    return CountedSet(kept.name, kept.attribute, kept.value, kept.item_ids)


def _effect(kept: KeptEffect, now_H: Sequence[float]) -> pb.ReplayedEffect:
    before, least, most, now = interval(kept.values_H, now_H)
    effect = pb.ReplayedEffect(name=kept.name, before=before, least=least, most=most, now=now)
    # As the caller sees them: in float32.
    effect.outside = not effect.least <= effect.now <= effect.most
    return effect
