"""Accounts of scores, and what would change a list, checked on made-up users of a bundle.

    python -m bench.accounts --bundle FOLDER --json FILE

Histories are drawn from the bundle's items, all alike likely. Accounts: each user plain, and steered by up to four controls of every
kind; how far the parts are from the score, as a part of the largest magnitude among the scores of the list (at least 1). Changes: a named
control, any control, and events by turns; each change that was found is checked by Recommend, at its strength and at 0.01 less, or without
its events. Where nothing was found, other strengths and all concepts at strength 2 are tried.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from steersman.v1.control_pb2 import (
    OPERATION_ABLATE,
    OPERATION_ADD,
    OPERATION_SCALE,
    OPERATION_SET,
    AttributeRef,
    Control,
    FeatureRef,
)
from steersman.v1.explanation_service_pb2 import CHANGE_STATUS_FOUND, Change, ChangeQuery, ExplainRequest
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman_service.api.caller import Caller
from steersman_service.api.explanation import ExplanationService
from steersman_service.api.list_change import ListChange
from steersman_service.api.recommendation import RecommendationService
from steersman_service.api.release import Release
from steersman_service.engine.loading import load_engine
from steersman_service.engine.options import EngineOptions
from steersman_service.scheduling.batcher import Batcher
from steersman_service.settings import Settings
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.metrics import Metrics

BACKENDS = ("onnx", "torch")
MOST_CONTROLS = 4
OPERATIONS = (OPERATION_ADD, OPERATION_SET, OPERATION_SCALE, OPERATION_ABLATE)
CHANGES = ("control", "any_control", "events")
# Of the users whose lists are changed, so that leaving out each event stays affordable.
MOST_EVENTS_OF_CHANGES = 40
LESS, OTHER_STRENGTHS = 0.0101, 10


class Exactness(NamedTuple):
    """Of one backend."""

    users: int
    accounts: int
    worst_plain: float
    worst_steered: float


def main() -> None:
    """Prints the figures, and writes them."""
    parser = argparse.ArgumentParser(
        "python -m bench.accounts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="of the torch backend; the other one is measured on the CPU")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    configure_logs("critical", "json")
    figures: dict[str, Any] = {}
    for backend in BACKENDS:
        device = options.device if backend == "torch" else "cpu"
        exactness = asyncio.run(_exactness(options, backend, device))
        print(f"{backend} on {device}: {exactness}", flush=True)
        figures[backend] = {"device": device, **exactness._asdict()}
    figures["changes"] = asyncio.run(_changes(options))
    print(json.dumps(figures["changes"], indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


@contextmanager
def _service(bundle: Path, backend: str, device: str) -> Iterator[ExplanationService]:
    engine = load_engine(bundle, EngineOptions(backend=cast(Any, backend), device=cast(Any, device), threads=1))
    settings = Settings(**cast(Any, {"bundle": bundle}))
    queue = Batcher(engine, queue_size=256, max_batch=32)
    list_change = ListChange(queue, 0.0, lambda share: None)
    release = Release.of(engine.bundle, settings)
    sessions: Any = None  # histories are explicit, and no scenario is named
    metrics = Metrics(collected=False)
    recommendation = RecommendationService(release, queue, sessions, settings, metrics, list_change, sessions)
    yield ExplanationService(recommendation)


async def _exactness(options: argparse.Namespace, backend: str, device: str) -> Exactness:
    rng, worst, accounts = np.random.default_rng(options.seed), {"plain": 0.0, "steered": 0.0}, 0
    with _service(options.bundle, backend, device) as service:
        release = service.recommendation.release
        for _ in range(options.users):
            history = _history(release, rng, release.bundle.manifest.window.length)
            named = rng.choice(release.items.ids, 10).tolist()
            for kind, controls in (("plain", []), ("steered", _controls(release, rng))):
                request = RecommendRequest(history=history, controls=controls)
                response = await service.Explain(ExplainRequest(request=request, item_ids=named), Caller())
                items = response.recommendation.items
                scale = max([1.0, *(abs(item.score) for item in items)])
                for account in response.accounts:
                    parts = [one.amount for one in account.features]
                    parts += [account.other_features, account.unexplained, account.bias, *account.controls]
                    worst[kind] = max(worst[kind], abs(sum(parts) - account.score) / scale)
                for item, account in zip(items, response.accounts, strict=False):
                    worst[kind] = max(worst[kind], abs(item.score - account.score) / scale)
                accounts += len(response.accounts)
    return Exactness(options.users, accounts, worst["plain"], worst["steered"])


def _history(release: Release, rng: np.random.Generator, most: int) -> History:
    count = min(int(rng.integers(1, most + 1)), len(release.items))
    return History(item_ids=rng.choice(release.items.ids, count, replace=False).tolist())


def _controls(release: Release, rng: np.random.Generator) -> list[Control]:
    """One to four; no feature twice, so that two SETs do not meet."""
    alive = [feature.id for feature in release.catalogue.features if feature.scale]
    return [
        _control(release, rng, int(feature))
        for feature in rng.choice(alive, int(rng.integers(1, MOST_CONTROLS + 1)), replace=False)
    ]


def _control(release: Release, rng: np.random.Generator, feature: int) -> Control:
    strength = float(rng.uniform(-2, 2))
    kind = rng.choice(["feature", "concept", "attribute"])
    if kind == "concept" and release.catalogue.concepts:
        concept = release.catalogue.concepts[int(rng.integers(len(release.catalogue.concepts)))]
        return Control(concept=concept.name, operation=OPERATION_ADD, strength=strength)
    valued = [one for one in release.catalogue.concepts if one.value]
    if kind == "attribute" and valued:
        one = valued[int(rng.integers(len(valued)))]
        reference = AttributeRef(name=one.attribute, value=one.value)
        return Control(attribute=reference, operation=OPERATION_ADD, strength=strength)
    operation = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
    if operation in (OPERATION_SCALE, OPERATION_ABLATE):
        strength = 0.0 if operation == OPERATION_ABLATE else abs(strength)
    return Control(
        feature=FeatureRef(id=feature, bundle_version=release.version), operation=operation, strength=strength
    )


async def _changes(options: argparse.Namespace) -> dict[str, Any]:
    rng = np.random.default_rng(options.seed + 1)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in CHANGES}
    seconds = dict.fromkeys(CHANGES, 0.0)
    with _service(options.bundle, "onnx", "cpu") as service:
        release = service.recommendation.release
        for number in range(options.changes):
            kind = CHANGES[number % len(CHANGES)]
            request = RecommendRequest(history=_history(release, rng, MOST_EVENTS_OF_CHANGES), controls=[])
            if rng.random() < 0.5:
                request.controls.extend(_controls(release, rng))
            query = await _query(service, kind, request, rng)
            start = time.perf_counter()
            response = await service.Explain(ExplainRequest(request=request, change=query), Caller())
            seconds[kind] += time.perf_counter() - start
            count, change = counts[kind], response.change
            count["asked"] += 1
            count["into the list"] += not change.was_in_list
            if change.status == CHANGE_STATUS_FOUND:
                count["found"] += 1
                count["confirmed"] += await _confirmed(service, request, query, change)
            else:
                count["found otherwise"] += await _found_otherwise(service, request, query, rng)
    return {
        kind: {**counts[kind], "mean_seconds": round(seconds[kind] / max(1, counts[kind]["asked"]), 4)}
        for kind in CHANGES
    }


async def _query(
    service: ExplanationService, kind: str, request: RecommendRequest, rng: np.random.Generator
) -> ChangeQuery:
    """On an item of the list, or of the ninety after it."""
    longer = RecommendRequest()
    longer.CopyFrom(request)
    longer.k = 100
    ranked = await _listed(service, longer)
    place = int(rng.integers(10 if kind == "events" or rng.random() < 0.5 else len(ranked)))
    query = ChangeQuery(item_id=ranked[place])
    if kind == "control":
        release = service.recommendation.release
        concept = release.catalogue.concepts[int(rng.integers(len(release.catalogue.concepts)))]
        direction = int(rng.integers(-1, 2))
        query.control.CopyFrom(Control(concept=concept.name, operation=OPERATION_ADD, strength=direction))
    else:
        setattr(query, kind, True)
    return query


async def _listed(service: ExplanationService, request: RecommendRequest) -> list[str]:
    answer = await service.recommendation.Recommend(request, Caller())
    return [item.item_id for item in answer.items]


async def _with(service: ExplanationService, request: RecommendRequest, control: Control, strength: float) -> list[str]:
    changed = RecommendRequest()
    changed.CopyFrom(request)
    changed.controls.append(control)
    changed.controls[-1].strength = strength
    return await _listed(service, changed)


async def _confirmed(
    service: ExplanationService, request: RecommendRequest, query: ChangeQuery, change: Change
) -> bool:
    """Whether Recommend says the same, and no list with a little less does it."""
    told = [item.item_id for item in change.items]
    if change.was_in_list == (query.item_id in told):
        return False
    if change.event_places:
        history = list(request.history.item_ids)
        gone = list(change.event_places)
        return told == await _without(service, request, gone) and (
            [history[place] for place in gone] == list(change.event_item_ids)
            and query.item_id in await _without(service, request, gone[:-1])
        )
    strength = change.control.strength
    if told != await _with(service, request, change.control, strength):
        return False
    less = strength - float(np.sign(strength)) * min(LESS, abs(strength))
    return change.was_in_list == (query.item_id in await _with(service, request, change.control, less))


async def _without(service: ExplanationService, request: RecommendRequest, places: list[int]) -> list[str]:
    kept = [item_id for place, item_id in enumerate(request.history.item_ids) if place not in places]
    return await _listed(service, RecommendRequest(history=History(item_ids=kept), controls=request.controls))


async def _found_otherwise(
    service: ExplanationService, request: RecommendRequest, query: ChangeQuery, rng: np.random.Generator
) -> bool:
    """Whether something within the bounds does it all the same: other strengths of the control, or any concept at strength 2."""
    before = query.item_id in await _listed(service, request)
    if query.WhichOneof("by") == "control":
        sign = float(np.sign(query.control.strength)) or float(rng.choice([-1, 1]))
        tried = [(query.control, sign * float(rng.uniform(0, 2))) for _ in range(OTHER_STRENGTHS)]
    elif query.WhichOneof("by") == "any_control":
        concepts = [one.name for one in service.recommendation.release.catalogue.concepts]
        tried = [(Control(concept=name, operation=OPERATION_ADD), sign * 2.0) for name in concepts for sign in (1, -1)]
    else:
        return False  # greedy: not always the fewest, nor always found
    for control, strength in tried:
        if before != (query.item_id in await _with(service, request, control, strength)):
            return True
    return False


if __name__ == "__main__":
    main()
