"""Cold start: what three interests are worth beside a user's first events.

    python -m bench.cold_start --bundle data/bundles/current --json data/cold_start.json
    python -m bench.cold_start --new-users 0.4 --work data/cold_start --json data/cold_start_new.json

After the first 0, 1, 2, 3 and 5 events of a user, two questions about the ten best items of those not seen. Is the next event among
them (HR@10)? What share of them does the user do later (precision@10)? Of what is popular, of the plain model, and of the model steered
by three genres, as concepts and as tilts. The strength is chosen on half of the users, for each question and number of events, 0
included; the other half is measured.

The interests are picked from one half, drawn at random, of what a user does from the seventh event on: the three most frequent genres
there, or the three most typical (whose share there exceeds their share of all events the most). This is an oracle of taste: a person
who is asked picks worse, or better. Precision counts the other half alone, and the next event is in neither.

With --bundle, the first events of all users were trained on. With --new-users, a bundle is trained without that share of them (into
WORK, once), and they alone are asked about.
"""

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from steersman_client import Control, LocalClient, concept, load, tilt
from steersman_training.data import Dataset
from steersman_training.data import load as load_data

EVENTS = (0, 1, 2, 3, 5)
LATER = max(EVENTS) + 1
FEWEST_LATER = 10
INTERESTS, K = 3, 10
STRENGTHS, NATS = (0.1, 0.25, 0.5, 1.0), (0.25, 0.5, 1.0, 2.0)
ATTRIBUTE = "genres"
THREADS, SEED, RESAMPLES = 32, 0, 2000

Answers = npt.NDArray[np.float64]
"""(users, EVENTS, QUESTIONS)"""
QUESTIONS = ("HR@10 of the next event", "precision@10 of later events")
Pick = Literal["frequent", "typical"]
PICKS: tuple[Pick, ...] = ("frequent", "typical")


class User(NamedTuple):
    """Someone who is asked about."""

    item_ids: list[str]
    """All events, oldest first."""
    interests: dict[Pick, list[str]]
    """Genres that have a concept."""
    later: set[str]
    """Ids of later events that no interest was picked from."""


class Figure(NamedTuple):
    """An answer for each of EVENTS, and over all of them with its 95% interval (bootstrap over users)."""

    question: str
    name: str
    strengths: list[float]
    """One for each of EVENTS; none if nothing is steered."""
    rates: list[float]
    mean: float
    low: float
    high: float


Ask = Callable[[User, int, float], Sequence[str]]
"""A user, after so many events, at a strength -> ids of the best items."""


def main() -> None:
    """Prints the table, and writes the figures."""
    parser = argparse.ArgumentParser(
        "python -m bench.cold_start", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="movielens-100k")
    parser.add_argument("--cache", type=Path, default=Path("data/cache"))
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--new-users", type=float, default=0.0, help="share of users that are left out of training")
    parser.add_argument("--work", type=Path, default=Path("data/cold_start"), help="folder for the bundle without them")
    parser.add_argument("--users", type=int, help="at most so many, to try it")
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    data = load_data(arguments.data, cache=arguments.cache)
    print(*first_events(data.events), sep="\n")
    asked = np.random.default_rng(SEED).permutation(data.report.users)
    known, folder = np.arange(data.report.users), arguments.bundle
    if arguments.new_users:
        asked, known = np.split(asked, [round(arguments.new_users * len(asked))])
        folder = trained_without(data, known, arguments.work)
    with load(folder) as model:
        users = [*_users(data, asked[: arguments.users], model)]
        figures = measured(model, users, popular(data, known))
    print(f"{len(users)} users, half of them to choose strengths by; after so many events:")
    print(*table(figures), sep="\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([figure._asdict() for figure in figures], indent=1) + "\n")


def first_events(events: pl.DataFrame) -> Iterator[str]:
    """What orders them: taste, or a page that everybody rates from. Times are in seconds."""
    placed = events.with_columns(
        pl.int_range(pl.len()).over("user").alias("place"), pl.col("time").diff().over("user").alias("gap")
    )
    together = (placed.filter(pl.col("place").is_between(1, LATER - 1))["gap"] == 0).to_numpy()
    yield f"of the first {LATER} events {together.mean():.0%} carry the same time as the one before"
    commonest = placed.filter(pl.col("place") == 0)["item"].value_counts(sort=True)["count"].to_numpy()
    yield f"the {K} commonest first items are {commonest[:K].sum() / commonest.sum():.0%} of all first events"
    spans = events.group_by("user").agg(pl.col("time").max() - pl.col("time").min())["time"].to_numpy()
    yield f"half of the users did all within {np.median(spans) / 60:.0f} minutes"


def trained_without(data: Dataset, known: npt.NDArray[np.int64], work: Path) -> Path:
    """The bundle of the preset `quick` on the events of `known` users; trained if WORK has none."""
    if not (current := work / "current").exists():
        import torch

        from steersman_training.display import RichDisplay
        from steersman_training.pipeline import train
        from steersman_training.presets import PRESETS

        events = data.events.filter(pl.col("user").is_in(known.tolist()))
        events = events.with_columns((pl.col("user").rank("dense") - 1).cast(pl.UInt32))
        digest = hashlib.sha256(f"{data.sha256} {known.tolist()}".encode()).hexdigest()
        part = replace(data, name=f"{data.name}, {len(known)} users", events=events, sha256=digest)
        with RichDisplay() as display:
            train(part, PRESETS["quick"], work, torch.device("cpu"), display)
    return current


def _users(data: Dataset, asked: npt.NDArray[np.int64], model: LocalClient) -> Iterator[User]:
    """Those with enough events."""
    concepts = {concept.value for concept in model.concepts(f"{ATTRIBUTE}:")}
    genres = [[genre for genre in of or () if genre in concepts] for of in data.items[ATTRIBUTE].to_list()]
    ids = data.items["item_id"].to_list()
    shares = _shares(genres, data.events["item"].to_list())
    rng = np.random.default_rng(SEED)
    rows_of = dict(data.events.group_by("user").agg("item").iter_rows())
    for user in asked.tolist():
        rows = rows_of[user]
        if len(rows) < LATER + FEWEST_LATER:
            continue
        half, other = np.array_split(rng.permutation(rows[LATER:]), 2)
        later = _shares(genres, half.tolist())
        frequent = sorted(later, key=lambda genre: -later[genre])
        typical = sorted(later, key=lambda genre: shares[genre] - later[genre])
        interests: dict[Pick, list[str]] = {"frequent": frequent[:INTERESTS], "typical": typical[:INTERESTS]}
        yield User([ids[row] for row in rows], interests, {ids[row] for row in other.tolist()})


def _shares(genres: Sequence[Sequence[str]], rows: Sequence[int]) -> dict[str, float]:
    """Share of the events with each genre."""
    counts: dict[str, float] = {}
    for row in rows:
        for genre in genres[row]:
            counts[genre] = counts.get(genre, 0.0) + 1 / len(rows)
    return counts


def popular(data: Dataset, known: npt.NDArray[np.int64]) -> list[str]:
    """Ids of items, the most frequent first."""
    events = data.events.filter(pl.col("user").is_in(known.tolist()))
    counts = np.bincount(events["item"].to_numpy(), minlength=data.items.height)
    return [data.items["item_id"][int(row)] for row in np.argsort(-counts, kind="stable")]


def measured(model: LocalClient, users: Sequence[User], popular: Sequence[str]) -> list[Figure]:
    """Each question of each way, on the half of the users that chose no strength."""
    half = len(users) // 2
    questions = range(len(QUESTIONS))
    plain = answers(users, partial(_steered, model, None, concept), 0.0)
    most_popular = answers(users, partial(_most_popular, popular), 0.0)
    figures = [_figure(question, "popularity", [], most_popular[half:]) for question in questions]
    figures += [_figure(question, "plain model", [], plain[half:]) for question in questions]
    for pick in PICKS:
        for name, kind, strengths in (("concepts", concept, STRENGTHS), ("tilts", _tilt, NATS)):
            steered = {each: answers(users, partial(_steered, model, pick, kind), each) for each in strengths}
            for question in questions:
                figures += _chosen(f"three {pick} genres, as {name}", question, {0.0: plain, **steered}, half)
    return sorted(figures, key=lambda figure: figure.question)


def _chosen(name: str, question: int, steered: dict[float, Answers], half: int) -> Iterator[Figure]:
    """At the strengths that are best on the first half of the users; and what that is above the plain model, at strength 0."""
    means = {strength: of[:half, :, question].mean(axis=0) for strength, of in steered.items()}
    strengths = [max(means, key=lambda each: float(means[each][point])) for point in range(len(EVENTS))]
    best = np.stack([steered[strength][half:, point] for point, strength in enumerate(strengths)], axis=1)
    yield _figure(question, name, strengths, best)
    yield _figure(question, f"{name}, less plain", strengths, best - steered[0.0][half:])


def answers(users: Sequence[User], ask: Ask, strength: float) -> Answers:
    """Of one way."""
    points = [(user, events) for user in users for events in EVENTS]

    def answer(point: tuple[User, int]) -> tuple[float, float]:
        user, events = point
        listed = ask(user, events, strength)
        return float(user.item_ids[events] in listed), len(user.later.intersection(listed)) / K

    with ThreadPoolExecutor(THREADS) as threads:  # what waits together is computed together
        found = np.array([*threads.map(answer, points)])
    return found.reshape(len(users), len(EVENTS), len(QUESTIONS))


def _steered(
    model: LocalClient,
    pick: Pick | None,
    kind: Callable[[str, float], Control],
    user: User,
    events: int,
    strength: float,
) -> Sequence[str]:
    controls = [kind(f"{ATTRIBUTE}:{genre}", strength) for genre in (user.interests[pick] if pick else ())]
    return model.recommend(user.item_ids[:events], controls=controls, k=K).item_ids


def _tilt(name: str, strength: float) -> Control:
    attribute, _, value = name.partition(":")
    return tilt(attribute, value, strength)


def _most_popular(popular: Sequence[str], user: User, events: int, strength: float) -> Sequence[str]:
    seen = set(user.item_ids[:events])
    return [item_id for item_id in popular[: K + len(seen)] if item_id not in seen][:K]


def _figure(question: int, name: str, strengths: list[float], of: Answers) -> Figure:
    values = of[:, :, question]
    means = values.mean(axis=1)
    rows = np.random.default_rng(SEED).integers(len(means), size=(RESAMPLES, len(means)))
    low, high = np.percentile(means[rows].mean(axis=1), [2.5, 97.5])
    return Figure(
        QUESTIONS[question], name, strengths, values.mean(axis=0).tolist(), float(means.mean()), float(low), float(high)
    )


def table(figures: Sequence[Figure]) -> Iterator[str]:
    """As Markdown, a table for each question."""
    heads = [f"{events} events" if events != 1 else "1 event" for events in EVENTS]
    for question in QUESTIONS:
        yield ""
        yield f"| {question} | strengths | {' | '.join(heads)} | all, 95% interval |"
        yield "|" + " --- |" * (len(heads) + 3)
        for asked, name, strengths, rates, mean, low, high in figures:
            if asked == question:
                cells = " | ".join(f"{rate:.3f}" for rate in rates)
                yield f"| {name} | {', '.join(map(str, strengths))} | {cells} | {mean:.3f} ({low:.3f} to {high:.3f}) |"


if __name__ == "__main__":
    main()
