"""How even the pushes of controls are: what the same strength does to the lists of test users, with units and without."""

from statistics import mean, pstdev

import torch

from steersman_training.autoencoder.edit import Edit
from steersman_training.catalogue.pushes import (
    COMPARED_AT,
    Tables,
    concept_steer,
    controls_with_units,
    feature_steer,
    push,
)
from steersman_training.catalogue.steering import Audience, Concepts

MEASURED = 500
"""Test users, at most."""


@torch.no_grad()
def push_figures(edit: Edit, graph: Concepts, tables: Tables, people: Audience) -> dict[str, float]:
    """Mean and coefficient of variation of 1 - overlap@10 over steerable features and concepts, at strengths 0.5 and -0.5.

    `push_cv` and `push_mean` with units, up; `..._down` down; `..._before` at the same strengths in the controls' own units.
    """
    some = people.take(torch.arange(min(MEASURED, len(people.h_BD)), device=people.h_BD.device))
    figures: dict[str, float] = {}
    controls = controls_with_units(tables)
    if not controls:
        return figures
    steers = {
        "feature": lambda row: feature_steer(edit, row, some),
        "concept": lambda row: concept_steer(edit, graph, row, some),
    }
    for direction, sign in (("", COMPARED_AT), ("_down", -COMPARED_AT)):
        for name in ("", "_before"):
            units = [1.0 if name else unit[sign < 0] for unit in controls.values()]
            pushes = [
                push(some.plain, steers[kind](row)(sign * unit).lists)
                for (kind, row), unit in zip(controls, units, strict=True)
            ]
            figures[f"push_mean{direction}{name}"] = mean(pushes)
            figures[f"push_cv{direction}{name}"] = pstdev(pushes) / max(mean(pushes), 1e-9)
    return figures
