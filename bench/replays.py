"""How far the effects of scenarios move from bundle to bundle of the same data, and whether a control that lost its meaning is seen.

python -m bench.replays BUNDLE BUNDLE [BUNDLE ...] [--data movielens-100k] [--every 3]

For each concept of an attribute value: a scenario that adds it at 0.5, at 1 and at -0.5, one with the goal "at least 0.4 of the
list", one with a tilt of 2 nats, and one with a least share of 0.3. Each is measured with one bundle and replayed with every other.
Then once more with every control, goal and least share on the next value in place of its own, as if it had lost its meaning, while what was
counted stays. Printed for each kind: how far means move; and for several tolerances which part of the scenarios would be said
to have moved, first as they are, then without their meaning.
"""

import argparse
import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control, Goal, ShareGoal
from steersman.v1.recommendation_service_pb2 import Composition, LeastShare
from steersman.v1.scenario_service_pb2 import ReplayedEffect, Scenario, ScenarioReplay
from steersman_service.api.caller import Caller
from steersman_service.api.release import Release
from steersman_service.api.replaying import MOST_HISTORIES, ScenarioReplays
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.histories import sample_histories
from steersman_service.processes.engine_host import open_engine
from steersman_service.sessions.measurements import Histories, Measured, Measurement, decoded, decoded_histories
from steersman_service.settings import load_settings
from steersman_service.steering.effects import TOLERANCE
from steersman_service.telemetry.metrics import Metrics
from steersman_training.data import load

LEAST_ITEMS = 20
MOST_EVENTS = 200
TOLERANCES = (0.0, 0.02, 0.05, 0.1)


class Kept:
    """Stands for the session store."""

    def __init__(self, scenarios: dict[str, Scenario], measured: dict[str, Measured]) -> None:
        self.scenarios = scenarios
        encoded = {name: one.encoded(0) for name, one in measured.items()}
        self._measurements = {name: decoded(data) for name, (data, _, _) in encoded.items()}
        self._histories = {source: decoded_histories(data) for _, source, data in encoded.values()}

    async def measured(self, name: str) -> tuple[Scenario, Measurement | None]:
        return self.scenarios[name], self._measurements[name]

    async def histories(self, source: str) -> Histories:
        return self._histories[source]


class Value(NamedTuple):
    concept: str
    attribute: str
    value: str

    def scenarios(self) -> Iterator[Scenario]:
        ref = AttributeRef(name=self.attribute, value=self.value)
        for strength in (0.5, 1.0, -0.5):
            control = Control(concept=self.concept, operation=OPERATION_ADD, strength=strength)
            yield Scenario(name=f"concept at {strength:g}", controls=[control])
        goal = Goal(share=ShareGoal(at_least=0.4))
        yield Scenario(name="goal of 0.4", controls=[Control(concept=self.concept, operation=OPERATION_ADD, goal=goal)])
        yield Scenario(name="tilt of 2 nats", controls=[Control(attribute=ref, operation=OPERATION_ADD, strength=2.0)])
        yield Scenario(
            name="least share of 0.3", composition=Composition(least_shares=[LeastShare(attribute=ref, share=0.3)])
        )


def values_of(catalogue: Catalogue, items: Any) -> list[Value]:
    """Categorical concepts of at least LEAST_ITEMS items."""
    found = []
    for concept in catalogue.concepts:
        column = items.attributes.get(concept.attribute)
        rows_of = getattr(column, "rows_of", {})
        if len(rows_of.get(concept.value, ())) >= LEAST_ITEMS:
            found.append(Value(concept.name, concept.attribute, concept.value))
    return found


def histories_of(data: str) -> Histories:
    """All events but the last, of MOST_HISTORIES users drawn at random."""
    loaded = load(data, cache=Path("data/cache"))
    ids = loaded.items["item_id"].to_list()
    events = loaded.events.sort("time", maintain_order=True).group_by("user", maintain_order=True).agg("item")
    users = events["item"].to_list()
    drawn = np.random.default_rng(0).permutation(len(users))[:MOST_HISTORIES]
    return [[str(ids[row]) for row in users[place][:-1][-MOST_EVENTS:]] for place in drawn]


def named(values: list[Value], *, turned: bool = False) -> dict[str, Scenario]:
    """By kind and value; `turned`: under the name of each value, the scenarios of the next one."""
    others = [*values[1:], values[0]] if turned else values
    return {
        f"{scenario.name}, {value.concept}": scenario
        for value, other in zip(values, others, strict=True)
        for scenario in other.scenarios()
    }


async def replayed(
    folder: Path, values: list[Value], histories: Histories, kept: dict[Path, dict[str, Measured]]
) -> tuple[dict[str, Measured], list[ScenarioReplay], list[ScenarioReplay]]:
    """Measures all scenarios with one bundle, and replays those that were measured with others: as they are, and turned."""
    settings = load_settings(bundle=folder, inference_threads=1, data=folder.parent)
    async with open_engine(settings, Metrics(collected=False), asyncio.Event()) as (engine, batcher):
        release = Release.of(engine.bundle, settings)
        found: list[list[ScenarioReplay]] = [[], []]
        for turned, measured in itertools.product((False, True), kept.values()):
            store = cast(Any, Kept(named(values, turned=turned), measured))
            replays = ScenarioReplays(release, batcher, store, settings.max_filter_items)
            for name in measured:
                replay = await replays.replay(name, Caller())
                assert replay is not None
                found[turned].append(replay)
        replays = ScenarioReplays(release, batcher, cast(Any, None), settings.max_filter_items)
        own = {name: await replays.measure(one, histories, Caller()) for name, one in named(values).items()}
    return own, found[0], found[1]


async def main(folders: list[Path], data: str, every: int) -> None:
    settings = load_settings(bundle=folders[0], inference_threads=1, data=folders[0].parent)
    async with open_engine(settings, Metrics(collected=False), asyncio.Event()) as (engine, _):
        release = Release.of(engine.bundle, settings)
        values = values_of(release.catalogue, release.items)[::every]
        samples = sample_histories(engine.bundle, release.items, MOST_HISTORIES)
        histories = histories_of(data) if data else [sample.item_ids for sample in samples]
    held: list[ScenarioReplay] = []
    lost: list[ScenarioReplay] = []
    kept: dict[Path, dict[str, Measured]] = {}
    # Forwards and backwards: every ordered pair of bundles once.
    for order in (folders, folders[::-1]):
        kept = {}
        for folder in order:
            own, same, turned = await replayed(folder, values, histories, kept)
            kept[folder] = own
            held += same
            lost += turned
    print(f"{len(values)} values, {len(folders)} bundles, {len(held)} replays, {len(histories)} histories")
    show(held, lost)


def show(held: list[ScenarioReplay], lost: list[ScenarioReplay]) -> None:
    tolerances = "".join(f" {tolerance:g} |" for tolerance in TOLERANCES)
    print(f"| scenario | 90% of changes within | 99% within | two standard errors, mean |{tolerances}")
    print(f"| --- | --- | --- | --- |{' --- |' * len(TOLERANCES)}")
    for kind in dict.fromkeys(map(kind_of, held)):
        own, turned = ([beyond(replay) for replay in replays if kind_of(replay) == kind] for replays in (held, lost))
        effects = [effect for replay in held if kind_of(replay) == kind for effect in replay.effects]
        within = np.quantile([abs(effect.now - effect.before) for effect in effects], (0.9, 0.99))
        errors = np.mean([reach_of(effect) - TOLERANCE for effect in effects])
        moved = "".join(
            f" {np.greater(own, tolerance).mean():.1%}, {np.greater(turned, tolerance).mean():.1%} |"
            for tolerance in TOLERANCES
        )
        print(f"| {kind} | {within[0]:.3f} | {within[1]:.3f} | {errors:.3f} |{moved}")


def kind_of(replay: ScenarioReplay) -> str:
    return replay.name.partition(",")[0]


def reach_of(effect: ReplayedEffect) -> float:
    return max(effect.most - effect.before, effect.before - effect.least)


def beyond(replay: ScenarioReplay) -> float:
    """By how much the effect that moved most exceeds its standard errors: the tolerance that would just hold it."""
    assert replay.effects
    return max(abs(effect.now - effect.before) - (reach_of(effect) - TOLERANCE) - 1e-6 for effect in replay.effects)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, help="folders, of the same data")
    parser.add_argument(
        "--data", default="", help="histories of 64 users of this data set, in place of those of the first bundle"
    )
    parser.add_argument("--every", type=int, default=1, help="take one value of so many")
    given = parser.parse_args()
    asyncio.run(main([folder.resolve() for folder in given.bundles], given.data, given.every))
