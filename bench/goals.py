"""Goals: how often they are reached, what they cost in accuracy and in time, and whether budgets hold.

    python -m bench.goals --bundle data/bundles/current --data movielens-100k --json FILE

Shares: for each genre, and each of 0.2, 0.4 and 0.6 of ten items, users of the test (leave-one-out: all events but the last, which
NDCG@10 looks for) ask for at least that share by the genre's concept, and by a tilt (score boosting). A solution exists where one of 81
lists at strengths 0 to 2 of the concept, computed beside, has the share or more. The concept counts as right there if the list's share is
within 0.05 of the goal, or the smallest of those lists' that is at least the goal, or if the list without controls has the share already
and nothing was done. NDCG@10 is compared where concept and tilt both reach the goal.

Budgets: random users, concepts or tilts, least overlaps and divergences; the overlap is computed anew from the two lists.

Time: one caller, by turns, at a server of its own: a plain request and one with a goal, of histories that are new to it.
"""

import argparse
import asyncio
import json
import socket
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np

from bench.peers.contestant import CALL_SECONDS
from bench.peers.steersman import RECOMMEND, Steersman
from bench.quartiles import Quartiles
from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control, Goal, ShareGoal
from steersman_service.api.caller import Caller
from steersman_service.api.list_change import ListChange
from steersman_service.api.recommendation import RecommendationService
from steersman_service.api.release import Release
from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_service.bundle.window import in_window
from steersman_service.engine.engine import Engine
from steersman_service.engine.loading import load_engine
from steersman_service.engine.options import EngineOptions
from steersman_service.engine.request import EngineRequest, Variant
from steersman_service.scheduling.batcher import Batcher
from steersman_service.settings import load_settings
from steersman_service.telemetry.metrics import Metrics
from steersman_training.data import load
from steersman_training.data.sequences import split_leave_one_out

SHARES = (0.2, 0.4, 0.6)
K = 10
CLOSE = 0.05
PATH = np.linspace(0, 2, 81)
WAYS = ("concept", "tilt")


class User(NamedTuple):
    """Of the test."""

    history: list[str]
    target: str
    """The item that came next."""


class Answer(NamedTuple):
    share: float
    strength: float
    reached: bool
    ndcg: float


class Bench(NamedTuple):
    service: RecommendationService
    engine: Engine
    users: Sequence[User]
    genres: Sequence[str]


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.goals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--data", default="movielens-100k")
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--budgets", type=int, default=10_000, help="random requests with a budget")
    parser.add_argument("--rounds", type=int, default=12, help="of time; 0 measures none")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    found = asyncio.run(_measured(arguments))
    if arguments.rounds:
        found["added_time"] = added_time(load_bundle(arguments.bundle, "onnx"), arguments.rounds)
    print(*lines(found), sep="\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


async def _measured(arguments: argparse.Namespace) -> dict[str, Any]:
    async with _service(arguments.bundle) as (service, engine):
        users = _users(arguments.data, arguments.users)
        names = service.release.catalogue.concept_rows
        genres = [name.partition(":")[2] for name in names if name.startswith("genres:")]
        bench = Bench(service, engine, users, genres)
        found: dict[str, Any] = {"users": len(users), "genres": len(genres)}
        if users:
            found["shares"] = await _shares(bench)
        if arguments.budgets:
            found["budgets"] = await _budgets(bench, arguments.budgets)
        return found


@asynccontextmanager
async def _service(folder: Path) -> AsyncIterator[tuple[RecommendationService, Engine]]:
    """The handlers and an engine, without a server."""
    settings = load_settings(bundle=folder, list_change_sample=0)
    engine = load_engine(folder, EngineOptions(threads=1))
    batcher = Batcher(engine, queue_size=256, max_batch=64)
    metrics = Metrics(collected=False)
    change = ListChange(batcher, 0, metrics.list_change)
    sessions: Any = None  # no request here names one, nor a scenario
    release = Release.of(engine.bundle, settings)
    yield RecommendationService(release, batcher, sessions, settings, metrics, change, sessions), engine
    await batcher.close()


def _users(source: str, count: int) -> list[User]:
    data = load(source, cache=Path("data/cache"))
    split = split_leave_one_out(data)
    ids = data.items["item_id"].to_list()
    chosen = np.sort(np.random.default_rng(0).permutation(len(split.test.users))[:count])
    tested = split.test.take(chosen)
    targets = split.targets(tested).tolist()
    return [
        User([ids[row] for row in split.history(user, position)], ids[target])
        for user, position, target in zip(tested.users.tolist(), tested.positions.tolist(), targets, strict=True)
    ]


async def _shares(bench: Bench) -> dict[str, Any]:
    answers: dict[tuple[str, str, float], list[Answer]] = defaultdict(list)
    paths: dict[str, list[Any]] = {}
    for done, genre in enumerate(bench.genres):
        print(f"shares: {genre} ({done + 1} of {len(bench.genres)})", flush=True)
        paths[genre] = [_path(bench, user, genre) for user in bench.users]
        for way in WAYS:
            for share in SHARES:
                controls = [_control(genre, way, Goal(share=ShareGoal(at_least=share)))]
                for user in bench.users:
                    answers[genre, way, share].append(await _asked(bench, user, controls))
    return {
        f"{share:g}": {
            **{way: _reached(way, share, bench.genres, answers, paths) for way in WAYS},
            "ndcg_to_boost": _beside(share, bench.genres, answers),
        }
        for share in SHARES
    }


def _path(bench: Bench, user: User, genre: str) -> Any:
    """Shares of the lists at strengths 0 to 2 of the genre's concept."""
    release = bench.service.release
    column = release.items.attributes["genres"]
    having_N = column.having([genre], len(release.items))
    rows = release.items.rows(user.history)
    mask_N = np.ones(len(release.items), np.bool_)
    mask_N[rows] = False
    window = release.bundle.manifest.window
    concept = np.array([release.catalogue.concept_rows[f"genres:{genre}"]])
    variants = [Variant(concepts_C=concept, concept_strengths_C=np.array([s], np.float32)) for s in PATH[1:]]
    ids_T = in_window(rows, len(rows), window.length, window.stride)
    (result,) = bench.engine.run([EngineRequest(ids_T, eligible_N=mask_N, k=K, variants=variants)])
    return np.array([having_N[each.rows_K].mean() for each in (result, *result.variants)]).round(6)


async def _asked(bench: Bench, user: User, controls: Sequence[Control]) -> Answer:
    request = pb.RecommendRequest(history=pb.History(item_ids=user.history), controls=controls, k=K)
    response = await bench.service.Recommend(request, Caller())
    told = response.receipt.controls[0]
    place = next((n for n, item in enumerate(response.items) if item.item_id == user.target), None)
    ndcg = 0.0 if place is None else 1 / np.log2(place + 2)
    return Answer(round(told.share_after, 6), told.applied_strength, told.goal == pb.GOAL_STATUS_REACHED, float(ndcg))


def _reached(
    way: str,
    share: float,
    genres: Sequence[str],
    answers: dict[tuple[str, str, float], list[Answer]],
    paths: dict[str, list[Any]],
) -> dict[str, float]:
    solvable = right = reached = told = 0
    strengths = []
    for genre in genres:
        for answer, path in zip(answers[genre, way, share], paths[genre], strict=True):
            enough = path[path >= share - 1e-6]
            told += answer.reached
            if not len(enough):
                continue
            solvable += 1
            close = abs(answer.share - share) <= CLOSE + 1e-6
            already = path[0] >= share - 1e-6 and answer.strength == 0
            right += close or already or share <= answer.share + 1e-6 <= enough.min() + 2e-6
            reached += answer.reached
            strengths.append(abs(answer.strength))
    asked = len(genres) * len(answers[genres[0], way, share])
    return {
        "asked": asked,
        "solvable": solvable,
        # Of a tilt, the concept's own lists do not say what the smallest share is.
        **({"right_of_solvable": right / max(1, solvable)} if way == "concept" else {}),
        "reached_of_solvable": reached / max(1, solvable),
        "reached_of_asked": told / asked,
        "mean_strength": float(np.mean(strengths)),
    }


def _beside(
    share: float, genres: Sequence[str], answers: dict[tuple[str, str, float], list[Answer]]
) -> dict[str, float]:
    """NDCG@10 of concepts as a multiple of tilts', each genre alone and all users together, where both reach the goal."""
    pairs = {
        genre: [
            (concept.ndcg, tilt.ndcg)
            for concept, tilt in zip(answers[genre, "concept", share], answers[genre, "tilt", share], strict=True)
            if concept.reached and tilt.reached
        ]
        for genre in genres
    }
    both = np.array([pair for own in pairs.values() for pair in own])
    return {"pairs": len(both), "ratio": float(both[:, 0].sum() / both[:, 1].sum())}


async def _budgets(bench: Bench, count: int) -> dict[str, Any]:
    rng, exceeded, strengths = np.random.default_rng(1), 0, []
    kinds = {"least_overlap": 0, "most_divergence": 0}
    for number in range(count):
        if number % 1000 == 0:
            print(f"budgets: {number} of {count}", flush=True)
        user = bench.users[int(rng.integers(len(bench.users)))]
        genre, way = rng.choice(bench.genres), WAYS[rng.integers(2)]
        kind = str(rng.choice(list(kinds)))
        value = rng.random() if kind == "least_overlap" else float(np.exp(rng.uniform(-7, 1)))
        sign = rng.choice([1, -1]) * (8.0 if way == "tilt" else 2.0)
        control = _control(str(genre), way, _budget(kind, value), strength=sign)
        history = pb.History(item_ids=user.history)
        steered = await bench.service.Recommend(pb.RecommendRequest(history=history, controls=[control]), Caller())
        plain = await bench.service.Recommend(pb.RecommendRequest(history=history), Caller())
        before, after = ({item.item_id for item in each.items} for each in (plain, steered))
        overlap = np.float32(len(before & after) / len(before))
        kept = (
            overlap >= np.float32(value) if kind == "least_overlap" else steered.receipt.divergence <= np.float32(value)
        )
        exceeded += not kept
        kinds[kind] += 1
        strengths.append(abs(steered.receipt.controls[0].applied_strength / sign))
    return {"requests": count, "exceeded": exceeded, **kinds, "mean_part_of_bound": float(np.mean(strengths))}


def _budget(kind: str, value: float) -> Goal:
    return Goal(least_overlap=value) if kind == "least_overlap" else Goal(most_divergence=value)


def _control(genre: str, way: str, goal: Goal, strength: float = 0.0) -> Control:
    if way == "concept":
        return Control(concept=f"genres:{genre}", operation=OPERATION_ADD, goal=goal, strength=strength)
    attribute = AttributeRef(name="genres", value=genre)
    return Control(attribute=attribute, operation=OPERATION_ADD, goal=goal, strength=strength)


def added_time(bundle: Bundle, rounds: int, calls: int = 40) -> dict[str, Any]:
    """Medians of each round, in milliseconds, and what a goal adds, in plain requests."""
    with tempfile.TemporaryDirectory() as folder:
        steersman = Steersman(bundle, Path(folder, "steersman"))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        with steersman.start(port) as process:
            process.wait_until(lambda: steersman.ready(port))
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                call: Any = channel.unary_unary(RECOMMEND)  # requests and answers stay bytes
                rng = np.random.default_rng(2)
                ms = [_round(call, steersman, rng, calls) for _ in range(rounds + 1)][1:]
    medians = {name: [float(np.median([each[name] for each in one])) for one in ms] for name in ms[0][0]}
    plain = medians.pop("plain")
    added = {
        name: Quartiles.of_ratios([g - p for g, p in zip(goal, plain, strict=True)], plain)
        for name, goal in medians.items()
    }
    return {
        "plain_ms": float(np.median(plain)),
        **{f"{name}_ms": float(np.median(values)) for name, values in medians.items()},
        "added": {name: quartiles._asdict() for name, quartiles in added.items()},
    }


def _round(call: Any, steersman: Steersman, rng: np.random.Generator, calls: int) -> list[dict[str, float]]:
    """By turns: plain, a share by a concept, the same by a tilt, and a budget."""
    names = [str(name) for name in steersman.bundle.concepts["name"].to_pylist() if str(name).startswith("genres:")]
    return [dict(_turn(call, steersman, rng, names)) for _ in range(calls)]


def _turn(
    call: Any, steersman: Steersman, rng: np.random.Generator, names: Sequence[str]
) -> Iterator[tuple[str, float]]:
    items, most = len(steersman.bundle.items_ND), steersman.bundle.manifest.window.length
    length = int(rng.integers(20, most))
    genre = str(rng.choice(names)).partition(":")[2]
    share, overlap = Goal(share=ShareGoal(at_least=float(rng.choice(SHARES)))), Goal(least_overlap=0.7)
    asked: dict[str, list[Control]] = {
        "plain": [],
        "concept": [_control(genre, "concept", share)],
        "tilt": [_control(genre, "tilt", share)],
        "overlap": [_control(genre, "concept", overlap)],
    }
    for name, controls in asked.items():
        message = steersman.recommend(controls, history=rng.choice(items, length, replace=False))
        began = time.perf_counter()
        call(message.body, timeout=CALL_SECONDS)
        yield name, 1e3 * (time.perf_counter() - began)


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    yield f"{found['users']} users, {found['genres']} genres"
    for share, one in found.get("shares", {}).items():
        for way in WAYS:
            figures = one[way]
            right = f", right {figures['right_of_solvable']:.4f}" if "right_of_solvable" in figures else ""
            where = f"solvable {figures['solvable']} of {figures['asked']}"
            reached = f"reached {figures['reached_of_solvable']:.4f}{right}"
            yield f"share {share} by {way}: {where}: {reached}; mean strength {figures['mean_strength']:.2f}"
        beside = one["ndcg_to_boost"]
        yield f"share {share}: NDCG@10 of concept / tilt {beside['ratio']:.3f} over {beside['pairs']} pairs"
    if budgets := found.get("budgets"):
        told = f"{budgets['exceeded']} of {budgets['requests']} exceeded"
        yield f"budgets: {told}, mean part of the bound {budgets['mean_part_of_bound']:.2f}"
    if timed := found.get("added_time"):
        yield f"plain {timed['plain_ms']:.2f} ms"
        for name, added in timed["added"].items():
            quartiles = f"quartiles {added['low']:.2f} to {added['high']:.2f}"
            yield f"{name}: adds {added['median']:.2f} plain requests ({quartiles})"


if __name__ == "__main__":
    main()
