"""Figures over several seeds, and the table of what steering by concepts does beside plain score boosting."""

import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch

from steersman_training.data import DataError, Dataset
from steersman_training.pipeline import Display, TrainConfig, Trained, train
from steersman_training.sequences import Split
from steersman_training.steering import audience, boost_to_share

STRENGTHS = (0.25, 0.5, 0.75, 1.0)


class Report(NamedTuple):
    """Means over seeds."""

    figures: dict[str, float]
    steering: list[dict[str, float | str]]  # concept, strength, share, kept, boost_kept; strength 0 is no control


def evaluate_seeds(
    data: Dataset, config: TrainConfig, seeds: int, concepts: list[str], device: torch.device, display: Display
) -> Report:
    """Trains with seeds 0, 1, ... and measures on the test events. `concepts`: names; all of them if empty."""
    figures, tables = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            seeded = replace(
                config,
                fit=replace(config.fit, seed=seed),
                sae=replace(config.sae, seed=seed),
                concepts=replace(config.concepts, seed=seed),
            )
            trained = train(data, seeded, Path(folder), device, display)
            figures.append(trained.figures)
            tables.append(steering_table(trained, concepts))
    means = {name: mean(run[name] for run in figures) for name in figures[0]}
    rows: list[dict[str, float | str]] = [
        {**row, **{name: mean(float(table[at][name]) for table in tables) for name in ("share", "kept", "boost_kept")}}
        for at, row in enumerate(tables[0])
    ]
    return Report(means, rows)


def steering_table(trained: Trained, names: list[str]) -> list[dict[str, float | str]]:
    """What each concept does to the lists of the test users at each strength, beside boosting to the same share."""
    split: Split = trained.split
    people = audience(trained.model, split, split.test)
    known = {aim.name: (concept, aim) for concept, aim in enumerate(trained.aims)}
    for name in names:
        if name not in known:
            raise DataError(f"concept: {name!r} is none of {', '.join(sorted(known))}")
    rows: list[dict[str, float | str]] = []
    for name in names or sorted(known):
        concept, aim = known[name]
        lean_N, member_N = aim.lean_N.to(people.h_BD.device), aim.member_N.to(people.h_BD.device)
        rows.append(
            {"concept": name, "strength": 0.0, "share": people.plain.share(member_N), "kept": 1.0, "boost_kept": 1.0}
        )
        for strength in STRENGTHS:
            steered = people.edited(trained.edit, *people.resolve(trained.graph, concept, strength))
            share = steered.share(member_N)
            boosted = boost_to_share(people, member_N, share, lean_N)[1]
            kept, boost_kept = (lists.ndcg / people.plain.ndcg for lists in (steered, boosted))
            rows.append({"concept": name, "strength": strength, "share": share, "kept": kept, "boost_kept": boost_kept})
    return rows
