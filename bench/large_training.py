"""How long a large catalogue takes to train: made-up data, some steps of the recommender, and every stage after it once.

OMP_NUM_THREADS=1 python -m bench.large_training --items 200000 --events 10000000 --work data/large

The whole recommender would take hours. Its time is that of a step, measured, times the steps of the preset's epochs. The stages
after it run on an untrained recommender: what they compute is worth nothing, and takes as long. Seconds are processor time, which other
programs on the machine change less than wall time; the index is built in the last stage.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from steersman_training.data import Dataset, load
from steersman_training.data.sequences import pad
from steersman_training.pipeline import Knowledge, TrainConfig, split_by, train
from steersman_training.presets import PRESETS
from steersman_training.recommender.fit import Fit, Progress

TOPICS, TAGS, TAGS_OF_A_TOPIC = 200, 4_000, 20
EVENTS_OF_A_USER = 100
OWN = 0.7
"""Share of events from one of a user's three topics; the others are from anywhere, by popularity."""
SKIPPED, STEPS = 3, 30


class Stages:
    """A display that notes how long each stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name, self._began = "", time.process_time()

    def stage(self, name: str) -> None:
        now = time.process_time()
        if self._name:
            self.seconds[self._name] = now - self._began
            print(f"{self._name:>20}: {now - self._began:.0f} s", flush=True)
        self._name, self._began = name, now

    def say(self, line: str) -> None:
        print(line, flush=True)

    def recommender(self, progress: Progress) -> None: ...
    def sae(self, epoch: int, epochs: int, variance_explained: float) -> None: ...
    def step(self, done: int, total: int) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.large_training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--work", type=Path, default=Path("data/large"), help="folder for the data and the bundle")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    write_data(options.items, options.events, options.work)
    data = load(str(options.work), cache=options.work)
    config = PRESETS["large"]
    config = replace(config, fit=replace(config.fit, precision="float32"))
    figures = recommender_seconds(data, config)
    stages = Stages()
    untrained = replace(config, fit=replace(config.fit, epochs=0))
    train(data, untrained, options.work / "bundles", torch.device("cpu"), stages)
    stages.stage("")
    figures["stages"] = {name: seconds for name, seconds in stages.seconds.items() if name != "recommender"}
    figures["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def write_data(items: int, events: int, folder: Path) -> None:
    """Interactions and an item table: users of three topics each, items by a power law, and four thousand tags."""
    rng = np.random.default_rng(0)
    topic_N, weight_N = rng.integers(0, TOPICS, items), rng.zipf(1.3, items).clip(1, 5_000).astype(float)
    users = max(1, events // EVENTS_OF_A_USER)
    lengths_U = np.maximum(5, rng.poisson(events / users, users))
    user_S = np.repeat(np.arange(users), lengths_U)
    topic_S = rng.integers(0, TOPICS, (users, 3))[user_S, rng.integers(0, 3, len(user_S))]
    item_S = np.where(rng.random(len(user_S)) < OWN, _of_topics(topic_S, topic_N, weight_N, rng), 0)
    anywhere = item_S == 0
    item_S[anywhere] = _drawn(np.cumsum(weight_N), 0.0, weight_N.sum(), anywhere.sum(), rng)
    position_S = np.arange(len(user_S)) - np.repeat(np.cumsum(lengths_U) - lengths_U, lengths_U)
    pl.DataFrame({"user_id": user_S, "item_id": item_S, "position": position_S}).write_parquet(
        folder / "interactions.parquet"
    )
    tags_N3 = (topic_N[:, None] * TAGS_OF_A_TOPIC + rng.integers(0, TAGS_OF_A_TOPIC, (items, 3))) % TAGS
    tags = [sorted({f"v{tag}" for tag in row}) for row in tags_N3.tolist()]
    titles = [f"Item {item}" for item in range(items)]
    pl.DataFrame({"item_id": np.arange(items), "title": titles, "tags": tags}).write_parquet(folder / "items.parquet")


def _of_topics(topic_S: np.ndarray, topic_N: np.ndarray, weight_N: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An item of each topic, by weight."""
    order = np.argsort(topic_N, kind="stable")
    cumulated = np.cumsum(weight_N[order])
    edges = np.concatenate([[0.0], cumulated])[np.searchsorted(topic_N[order], np.arange(TOPICS + 1))]
    low, high = edges[topic_S], edges[topic_S + 1]
    drawn = order[np.minimum(np.searchsorted(cumulated, low + rng.random(len(low)) * (high - low)), len(order) - 1)]
    return np.asarray(drawn)


def _drawn(cumulated: np.ndarray, low: float, high: float, count: int, rng: np.random.Generator) -> np.ndarray:
    places = np.searchsorted(cumulated, low + rng.random(count) * (high - low))
    return np.minimum(places, len(cumulated) - 1)


def recommender_seconds(data: Dataset, config: TrainConfig) -> dict[str, object]:
    """Of a step, an epoch and the whole, validations aside."""
    began = time.process_time()
    split = split_by(config.split, data)
    known = Knowledge.of(data, split, config.min_concept_items)
    prepared = time.process_time() - began
    fit = Fit(split, config.recommender, config.fit, torch.device("cpu"), known.attributes_NV)
    fit.model.train()
    groups: Sequence[list[np.ndarray]] = fit._groups(np.random.default_rng(0))
    seconds = []
    for group in groups[: SKIPPED + STEPS]:
        began = time.process_time()
        fit._step(pad(group))
        seconds.append(time.process_time() - began)
    step = float(np.median(seconds[SKIPPED:]))
    hours = step * len(groups) * config.fit.epochs / 3600
    print(f"{len(groups)} steps an epoch of {step:.2f} s: {hours:.1f} h for {config.fit.epochs} epochs", flush=True)
    return {"attributes": prepared, "step": step, "steps_an_epoch": len(groups), "recommender_hours": hours}


if __name__ == "__main__":
    main()
