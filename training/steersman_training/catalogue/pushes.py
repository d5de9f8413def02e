"""Comparable strengths: the unit of each control, so that the same strength is the same push whatever is steered.

A push is 1 - overlap@10 of the lists with a control and without, mean over users. Dimensions: B users, N items, K = 10.
"""

import math
from collections.abc import Callable
from functools import cache
from statistics import median
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from steersman_training.autoencoder.edit import Edit
from steersman_training.catalogue.aims import Aim
from steersman_training.catalogue.concepts import CALIBRATED_USERS, concept_effect
from steersman_training.catalogue.curves import SCHEMA, UNMEASURED, effect, effect_curve
from steersman_training.catalogue.labels import Labels
from steersman_training.catalogue.steering import Audience, Concepts, SteeredLists

COMPARED_AT = 0.5  # strength of the controls whose pushes are made alike
MOST_NATURAL = 1.0  # of a feature, at that strength: twice as much, at strength 1, is where its natural range ends
LEAST_DENSITY = 0.005  # of a feature that has a unit of its own: a rarer one is hardly ever steered
TRIES, MOST_GROWTH, MOST_UNIT = 7, 3.0, 4.0  # in the search for a unit
CLOSE = 0.006  # to the wanted push
WORTH_IT = 1.05  # what a larger unit must multiply the push by
TINY = 1e-6


class Steered(NamedTuple):
    """Some users under one control."""

    lists: SteeredLists
    size: float
    """Mean magnitude of the edit, in natural maxima of its feature."""


Steer = Callable[[float], Steered]
"""By strength, in the control's own unit: natural maxima of a feature; of a concept, its calibration."""


class Unit(NamedTuple):
    """How many of its own units a control's strength of 1 is, and of -1; what strengths of 0.5 and -0.5 push with it."""

    up: float
    down: float
    push_up: float
    push_down: float


_UNMEASURED = {"unit_up": 1.0, "unit_down": 1.0, "push_up": None, "push_down": None}


class Tables(NamedTuple):
    """The catalogue, with units, with effects measured at strength 1 in them, and effect curves."""

    features: pl.DataFrame
    concepts: pl.DataFrame


def controls_with_units(tables: Tables) -> dict[tuple[str, int], tuple[float, float]]:
    """Kind ("feature" or "concept") and row of each control that was brought to the common push, and its units."""
    parts = (
        ("feature", tables.features.filter(pl.col("push_up").is_not_null()).select("feature", "unit_up", "unit_down")),
        ("concept", tables.concepts.with_row_index().select("index", "unit_up", "unit_down")),
    )
    return {(kind, row): (up, down) for kind, rows in parts for row, up, down in rows.iter_rows()}


@torch.no_grad()
def with_units(
    edit: Edit,
    graph: Concepts,
    aims: list[Aim],
    labels: Labels,
    tables: Tables,
    people: Audience,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Tables:
    """Adds the columns of `Unit` to both tables: to concepts, and to steerable features that are not rare; the others' unit is 1.

    All are brought to the median push of their present units at strength 0.5, up and down, as far as the natural range of features
    allows. What the tables say of strength 1 is measured anew, and the curves of concepts and steerable features are added. `report` is
    called with the number of controls done, and of all.
    """
    some = people.take(torch.arange(min(CALIBRATED_USERS, len(people.h_BD)), device=people.h_BD.device))
    steered = tables.features.filter(pl.col("steerable") & (pl.col("density") >= LEAST_DENSITY) & (pl.col("scale") > 0))
    steers = {("feature", row): cache(feature_steer(edit, row, some)) for row in steered["feature"].to_list()}
    steers |= {("concept", row): cache(concept_steer(edit, graph, row, some)) for row in range(len(aims))}
    wanted = target_push(list(steers.values()), some)
    units = {}
    for control, steer in steers.items():
        units[control] = comparable_unit(steer, some, wanted)
        report(len(units), len(steers))
    features, concepts = (table.to_dicts() for table in tables)
    for (kind, row), unit in units.items():
        columns = dict(zip(_UNMEASURED, unit, strict=True))
        if kind == "feature":
            features[row] |= columns | _feature_effect(edit, row, unit.up, labels.predicted_FN[row], people)
        else:
            member_N = aims[row].member_N.to(edit.scale_F.device)
            concepts[row] |= columns | concept_effect(edit, graph, row, member_N, some, unit.up)
            lists_at = _lists_at(steers[kind, row], unit.up, unit.down)
            concepts[row] |= effect_curve(concepts[row], lists_at, member_N, some)
    for row in tables.features.filter("steerable")["feature"].to_list():
        own = features[row]
        lists_at = _lists_at(feature_steer(edit, row, people), own.get("unit_up", 1.0), own.get("unit_down", 1.0))
        own |= effect_curve(own, lists_at, labels.predicted_FN[row], people)
    return Tables(*(_table(rows, old) for rows, old in zip((features, concepts), tables, strict=True)))


def feature_steer(edit: Edit, feature: int, people: Audience) -> Steer:
    return lambda strength: Steered(people.steered(edit, feature, strength), abs(strength))


def concept_steer(edit: Edit, graph: Concepts, concept: int, people: Audience) -> Steer:
    """A concept, solved for each user."""
    feature = int(graph.features_X[concept])

    def steer(strength: float) -> Steered:
        strengths_B = people.concept_strengths(edit, graph, concept, strength)
        return Steered(people.steered(edit, feature, strengths_B), float(strengths_B.abs().mean()))

    return steer


def push(plain: SteeredLists, lists: SteeredLists) -> float:
    """1 - overlap@10, mean over users."""
    kept_BK = (plain.rows_BK[:, :, None] == lists.rows_BK[:, None, :]).any(2)
    return 1 - float(kept_BK.double().mean())


def target_push(steers: list[Steer], people: Audience) -> float:
    """The median of what controls do at strength 0.5 in their own units; 0 of none."""
    return median([push(people.plain, steer(COMPARED_AT).lists) for steer in steers] or [0.0])


def comparable_unit(steer: Steer, people: Audience, wanted: float) -> Unit:
    """The units, up and down, with which a strength of 0.5 pushes as much as is wanted, or as near to it as the natural range allows."""
    (up, push_up), (down, push_down) = (_search(steer, people, wanted, sign) for sign in (1.0, -1.0))
    return Unit(up, down, push_up, push_down)


class _Tried(NamedTuple):
    unit: float
    push: float
    natural: bool
    """Whether the edit is within its natural range, or the unit no larger than the control's own."""


def _search(steer: Steer, people: Audience, wanted: float, sign: float) -> tuple[float, float]:
    """Unit and push in one direction: the least unit that pushes as much as is wanted, or the largest that still helps and is natural."""

    def at(unit: float) -> _Tried:
        lists, size = steer(sign * unit * COMPARED_AT)
        return _Tried(unit, push(people.plain, lists), unit <= 1 or size <= MOST_NATURAL)

    def enough(tried: _Tried) -> bool:
        return tried.push >= wanted or not tried.natural

    low = high = None  # the largest unit that does not push enough, the smallest that does or is not natural
    unit = 1.0
    for turn in range(TRIES):
        tried = at(unit)
        if tried.natural and abs(tried.push - wanted) < CLOSE:
            return tried.unit, tried.push
        if tried.push >= wanted or not tried.natural:
            high = tried
        elif low is not None and tried.push < WORTH_IT * low.push:
            break  # that was all it can do
        else:
            low = tried
        if unit == MOST_UNIT and low is tried:
            break
        unit = _next(low, high, wanted, halve=turn % 2 == 0)
    tries = [tried for tried in (low, high) if tried is not None and tried.natural]
    best = min(tries, key=lambda tried: abs(tried.push - wanted))
    return best.unit, best.push


def _next(low: _Tried | None, high: _Tried | None, wanted: float, *, halve: bool) -> float:
    """The unit to try next: pushes grow a little more slowly than units. `halve` what is between two of them, or go by the pushes."""
    if high is None:
        assert low is not None
        return min(low.unit * min(wanted / max(low.push, TINY), MOST_GROWTH), MOST_UNIT)
    if low is None:
        return high.unit * max(wanted / high.push, 1 / MOST_GROWTH)
    part = 0.5
    if (
        high.push > wanted > low.push > 0 and not halve
    ):  # as if the push were a power of the unit, and not too near to either
        part = min(max(math.log(wanted / low.push) / math.log(high.push / low.push), 0.1), 0.9)
    return low.unit * math.exp(part * math.log(high.unit / low.unit))


def _lists_at(steer: Steer, up: float, down: float) -> Callable[[float], SteeredLists]:
    """The lists by a control's strength, given its units."""
    return lambda strength: steer(strength * (up if strength > 0 else down)).lists


def _feature_effect(edit: Edit, feature: int, unit: float, member_N: Tensor, people: Audience) -> dict[str, Any]:
    share, ndcg_kept = effect(people.steered(edit, feature, unit), member_N, people)
    return {"share_after": share, "ndcg_kept": ndcg_kept}


def _table(rows: list[dict[str, Any]], old: pl.DataFrame) -> pl.DataFrame:
    """Units of 1, unknown pushes and empty curves, where a row has none."""
    rows = [{**_UNMEASURED, **UNMEASURED, **row} for row in rows]
    return pl.DataFrame(rows, schema={**old.schema, **dict.fromkeys(_UNMEASURED, pl.Float32), **SCHEMA})
