"""Concepts: each aim by name, as its anchored feature, as strong as it takes.

Dimensions: X concepts, B users, D hidden, F features, N items.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

from steersman_training.autoencoder.edit import Edit
from steersman_training.bundle.graphs import FixedConcepts, SolvedConcepts
from steersman_training.catalogue.aims import Aim
from steersman_training.catalogue.steering import Audience, Concepts

CALIBRATED_USERS = 200  # on whom strength 1 is calibrated, and the effect of a concept measured
FIRST_TILT, GROWTH, TRIES, BISECTIONS = 0.5, 1.6, 8, 7  # in the search for strength 1; the last tilt tried is 13
SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(("name", "attribute", "value"), pl.String),
    "features": pl.List(pl.Int32),
    "weights": pl.List(pl.Float32),
    **dict.fromkeys(("strength", "strength_95", "share_before", "share_after", "ndcg_kept"), pl.Float32),
}


@dataclass(frozen=True)
class ConceptConfig:
    """How concepts are fitted."""

    candidates: int = 256
    """Best items of a user on which a concept is solved. More of them help where a value has few items."""
    rise: float = 0.30
    """What strength 1 adds to the value's share of the top ten, measured on validation users (less where it is common already)."""


def target_share(before: float, rise: float) -> float:
    """The share wanted at strength 1; never more than nine tenths of a list."""
    return max(min(before + rise, 0.9), before)


@torch.no_grad()
def fit_concepts(
    edit: Edit,
    aims: list[Aim],
    people: Audience,
    config: ConceptConfig,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Concepts, pl.DataFrame]:
    """The concept graph, and concepts.parquet: one row an aim, in their order. Aim v has the v-th anchored feature.

    Strength 1 is calibrated, and the effect measured, on `people`. If the state is the query, a concept is solved for the state at hand;
    below the last block its strength is fixed. `report` is called with the number of concepts done, and of all.
    """
    device = edit.scale_F.device
    if not aims:
        return FixedConcepts(torch.zeros(1, dtype=torch.int64), torch.zeros(1)), pl.DataFrame(schema=SCHEMA)
    features_X = torch.arange(len(aims), device=device) + edit.sae.discovered
    tilts_X = torch.ones(len(aims), device=device)
    concepts: Concepts = FixedConcepts(features_X, tilts_X)
    if not people.context:
        leans_XN = torch.stack([aim.lean_N for aim in aims]).to(device)
        concepts = SolvedConcepts(edit, features_X, leans_XN, tilts_X, config.candidates)
    some = people.take(torch.arange(min(CALIBRATED_USERS, len(people.h_BD)), device=device))
    rows = []
    for row, aim in enumerate(aims):
        member_N = aim.member_N.to(device)
        effect = _calibrate(edit, concepts, row, member_N, some, config.rise)
        rows.append({"name": aim.name, "attribute": aim.attribute, "value": aim.value, **effect})
        report(row + 1, len(aims))
    return concepts, pl.DataFrame(rows, schema=SCHEMA)


def _calibrate(
    edit: Edit, concepts: Concepts, row: int, member_N: Tensor, people: Audience, rise: float
) -> dict[str, Any]:
    """Makes strength 1 of a concept the least tilt that reaches its goal, or the one that comes closest. Its effect."""

    def share_at(tilt: float) -> float:
        concepts.tilts_X[row] = tilt
        strengths_B = people.concept_strengths(edit, concepts, row, 1.0)
        return people.steered(edit, int(concepts.features_X[row]), strengths_B).share(member_N)

    before = people.plain.share(member_N)
    goal, low, high = target_share(before, rise), 0.0, FIRST_TILT
    shares: dict[float, float] = {}
    for _ in range(TRIES):
        shares[high] = share_at(high)
        if shares[high] >= goal:
            break
        low, high = high, high * GROWTH
    else:
        low = high = max(shares, key=lambda tilt: (shares[tilt], -tilt))
    for _ in range(BISECTIONS if low < high else 0):
        middle = (low + high) / 2
        low, high = (low, middle) if share_at(middle) >= goal else (middle, high)
    concepts.tilts_X[row] = high
    return concept_effect(edit, concepts, row, member_N, people, 1.0)


def concept_effect(
    edit: Edit, concepts: Concepts, row: int, member_N: Tensor, people: Audience, strength: float
) -> dict[str, Any]:
    """What a concept comes down to at a strength of the graph, and what that does: columns of concepts.parquet."""
    strengths_B = people.concept_strengths(edit, concepts, row, strength)
    steered = people.steered(edit, int(concepts.features_X[row]), strengths_B)
    return {
        "features": [int(concepts.features_X[row])],
        "weights": [float(strengths_B.mean())],
        "strength": float(strengths_B.abs().mean()),
        "strength_95": float(strengths_B.abs().quantile(0.95)),
        "share_before": people.plain.share(member_N),
        "share_after": steered.share(member_N),
        "ndcg_kept": steered.ndcg / max(people.plain.ndcg, 1e-9),
    }
