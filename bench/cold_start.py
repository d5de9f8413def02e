"""Cold start: what three interests are worth beside a user's first events.

    python -m bench.cold_start --bundle data/bundles/current --json data/cold_start.json
    python -m bench.cold_start --new-users 0.4 --work data/cold_start --json data/cold_start_new.json

After the first 0, 1, 2, 3 and 5 events of a user: is the next event among the ten best of those not seen (HR@10)? Of what is popular, of
the plain model, and of the model steered by three concepts of genres at one strength. The strength is chosen on half of the users, as the
one with the best hit rate over all these points; the other half is measured.

The interests are picked from what a user does later, from the seventh event on, so no event that is asked for is among them: the three most
frequent genres there, or the three most typical (whose share there exceeds their share of all events the most). This is an oracle of
taste: a person who is asked picks worse, or better.

With --bundle, the first events of all users were trained on. With --new-users, a bundle is trained without that share of them (into WORK,
once), and they alone are asked about.
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

from steersman_client import LocalClient, load
from steersman_training.data import Dataset
from steersman_training.data import load as load_data

EVENTS = (0, 1, 2, 3, 5)
LATER = max(EVENTS) + 1
FEWEST_LATER = 10
INTERESTS, K = 3, 10
STRENGTHS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
ATTRIBUTE = "genres"
THREADS, SEED, RESAMPLES = 32, 0, 2000

Hits = npt.NDArray[np.float64]
Pick = Literal["frequent", "typical"]


class User(NamedTuple):
    """Someone who is asked about."""

    item_ids: list[str]
    """All events, oldest first."""
    interests: dict[Pick, list[str]]
    """Names of concepts."""


class Figure(NamedTuple):
    """A hit rate for each of EVENTS, and over all of them with its 95% interval (bootstrap over users)."""

    name: str
    strength: float | None
    rates: list[float]
    mean: float
    low: float
    high: float


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
    asked = np.random.default_rng(SEED).permutation(data.report.users)
    known, folder = np.arange(data.report.users), arguments.bundle
    if arguments.new_users:
        asked, known = np.split(asked, [round(arguments.new_users * len(asked))])
        folder = trained_without(data, known, arguments.work)
    with load(folder) as model:
        users = [*_users(data, asked[: arguments.users], model)]
        figures = measured(model, users, popular(data, known))
    print(f"{len(users)} users, half of them to choose strengths by; HR@{K} after so many events")
    print(*table(figures), sep="\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([figure._asdict() for figure in figures], indent=1) + "\n")


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
    concepts = {concept.value: concept.name for concept in model.concepts(f"{ATTRIBUTE}:")}
    genres = [[genre for genre in of or () if genre in concepts] for of in data.items[ATTRIBUTE].to_list()]
    ids = data.items["item_id"].to_list()
    shares = _shares(genres, data.events["item"].to_list())
    rows_of = dict(data.events.group_by("user").agg("item").iter_rows())
    for user in asked.tolist():
        rows = rows_of[user]
        if len(rows) < LATER + FEWEST_LATER:
            continue
        later = _shares(genres, rows[LATER:])
        frequent = sorted(later, key=lambda genre: -later[genre])
        typical = sorted(later, key=lambda genre: shares[genre] - later[genre])
        interests: dict[Pick, list[str]] = {
            "frequent": [concepts[genre] for genre in frequent[:INTERESTS]],
            "typical": [concepts[genre] for genre in typical[:INTERESTS]],
        }
        yield User([ids[row] for row in rows], interests)


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
    """Each way, on the half of the users that chose no strength."""
    half = len(users) // 2
    choosing, asked = users[:half], users[half:]
    hits_of = partial(hits, ask=partial(_steered, model))
    plain = hits_of(asked, None, 0.0)
    figures = [
        _figure("popularity", None, hits(asked, None, 0.0, ask=partial(_popular, popular)), None),
        _figure("plain model", None, plain, None),
    ]
    picks: tuple[Pick, ...] = ("frequent", "typical")
    for pick in picks:
        best = max(STRENGTHS, key=lambda strength: float(hits_of(choosing, pick, strength).mean()))
        steered = hits_of(asked, pick, best)
        figures.append(_figure(f"three {pick} genres", best, steered, None))
        figures.append(_figure(f"three {pick} genres, less plain", best, steered, plain))
    return figures


def hits(users: Sequence[User], pick: Pick | None, strength: float, *, ask: Callable[..., Sequence[str]]) -> Hits:
    """1 where the next event is among the best K. (users, EVENTS)"""
    points = [(user, events) for user in users for events in EVENTS]

    def hit(point: tuple[User, int]) -> bool:
        user, events = point
        interests = user.interests[pick] if pick else []
        return user.item_ids[events] in ask(user.item_ids[:events], interests, strength)

    with ThreadPoolExecutor(THREADS) as threads:  # what waits together is computed together
        return np.array([*threads.map(hit, points)], float).reshape(len(users), len(EVENTS))


def _steered(model: LocalClient, history: list[str], interests: Sequence[str], strength: float) -> Sequence[str]:
    return model.recommend(history, controls=dict.fromkeys(interests, strength), k=K).item_ids


def _popular(popular: Sequence[str], history: list[str], interests: Sequence[str], strength: float) -> Sequence[str]:
    seen = set(history)
    return [item_id for item_id in popular[: K + len(seen)] if item_id not in seen][:K]


def _figure(name: str, strength: float | None, hits: Hits, less: Hits | None) -> Figure:
    """Of `hits`, or of what they are above `less`, user by user."""
    values = hits if less is None else hits - less
    means = values.mean(axis=1)
    rows = np.random.default_rng(SEED).integers(len(means), size=(RESAMPLES, len(means)))
    low, high = np.percentile(means[rows].mean(axis=1), [2.5, 97.5])
    return Figure(name, strength, values.mean(axis=0).tolist(), float(means.mean()), float(low), float(high))


def table(figures: Sequence[Figure]) -> Iterator[str]:
    """As Markdown."""
    heads = [f"{events} events" if events != 1 else "1 event" for events in EVENTS]
    yield f"| way | strength | {' | '.join(heads)} | all, 95% interval |"
    yield "|" + " --- |" * (len(heads) + 3)
    for name, strength, rates, mean, low, high in figures:
        cells = " | ".join(f"{rate:.3f}" for rate in rates)
        yield f"| {name} | {strength or ''} | {cells} | {mean:.3f} ({low:.3f} to {high:.3f}) |"


if __name__ == "__main__":
    main()
