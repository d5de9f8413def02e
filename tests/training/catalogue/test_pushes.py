"""Units: found where a push can be had, within the natural range, and told where it cannot."""

import math
from pathlib import Path

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_training.catalogue.pushes import (
    CLOSE,
    COMPARED_AT,
    MOST_UNIT,
    Steer,
    Steered,
    Tables,
    comparable_unit,
    concept_steer,
    feature_steer,
    push,
)
from steersman_training.catalogue.steering import SteeredLists
from steersman_training.evaluation.control.evenness import push_figures
from tests.training.controlled import Controlled

USERS = 100


def lists(replaced: float) -> SteeredLists:
    """Of USERS, with that share of all items replaced."""
    rows_BK = torch.arange(10).repeat(USERS, 1)
    rows_BK.flatten()[: round(replaced * rows_BK.numel())] += 100
    return SteeredLists(rows_BK, torch.zeros(USERS))


class Plain:
    """An audience that is asked for its plain lists alone."""

    plain = lists(0.0)


def made(rate: float, most: float, size: float) -> Steer:
    """Pushes ever less the stronger it is, up to `most`; its edit is `size` at strength 1."""
    return lambda strength: Steered(lists(most * (1 - math.exp(-rate * abs(strength)))), size * abs(strength))


def test_a_push_is_the_share_of_the_list_that_is_replaced() -> None:
    assert push(lists(0.0), lists(0.0)) == 0
    assert push(lists(0.0), lists(0.3)) == pytest.approx(0.3)
    assert push(lists(0.0), lists(1.0)) == 1


@given(rate=st.floats(0.02, 10), most=st.floats(0.05, 1), size=st.floats(0, 6), wanted=st.floats(0.03, 0.4))
@settings(deadline=None, max_examples=60)
def test_the_wanted_push_is_reached_unless_the_natural_range_ends_before(
    rate: float, most: float, size: float, wanted: float
) -> None:
    steer = made(rate, most, size)
    unit = comparable_unit(steer, Plain(), wanted)  # type: ignore[arg-type]
    assert (unit.up, unit.push_up) == (unit.down, unit.push_down)
    assert 0 < unit.up <= MOST_UNIT
    got = steer(COMPARED_AT * unit.up)
    assert push(Plain.plain, got.lists) == pytest.approx(unit.push_up)
    assert unit.up <= 1 or got.size <= 1, "no unit takes a control out of the natural range that was in it"
    if 0.02 < unit.push_up < 0.85 * wanted - CLOSE:  # smaller ones are counted in few items
        further = steer(COMPARED_AT * unit.up * 1.35)
        saturated = push(Plain.plain, further.lists) < 1.3 * unit.push_up
        assert unit.up >= MOST_UNIT or further.size > 1 or saturated
    assert unit.push_up <= 1.15 * wanted + CLOSE


def test_directions_have_units_of_their_own() -> None:
    steer = lambda strength: Steered(lists(min(abs(strength) * (0.1 if strength > 0 else 0.8), 1.0)), abs(strength))  # noqa: E731
    unit = comparable_unit(steer, Plain(), 0.1)  # type: ignore[arg-type]
    assert unit.up == pytest.approx(2.0, rel=0.15)
    assert unit.down == pytest.approx(0.25, rel=0.15)


def test_steers_are_the_controls_that_they_stand_for(controlled: Controlled) -> None:
    people, feature = controlled.people, int(controlled.edit.scale_F.argmax())
    one = torch.ones_like(people.h_BD[:, :1])
    wanted = people.edited(controlled.edit, (feature * one).long(), one, 0.7 * one)
    got = feature_steer(controlled.edit, feature, people)(0.7)
    assert torch.equal(got.lists.rows_BK, wanted.rows_BK)
    assert got.size == 0.7
    edits = people.resolve(controlled.graph, 1, -0.7)
    wanted = people.edited(controlled.edit, edits.concept_features_BE, edits.concept_gains_BE, edits.concept_edits_BE)
    got = concept_steer(controlled.edit, controlled.graph, 1, people)(-0.7)
    assert push(wanted, got.lists) < 0.01
    assert got.size == pytest.approx(float(edits.concept_edits_BE.abs().mean()), rel=1e-4)


def test_a_bundle_has_units_where_something_can_be_steered(bundle_dir: Path) -> None:
    features, concepts = (pl.read_parquet(bundle_dir / f"{name}.parquet") for name in ("features", "concepts"))
    steered = features.filter(pl.col("steerable") & (pl.col("density") >= 0.005))
    others = features.filter(~pl.col("feature").is_in(steered["feature"].to_list()))
    assert steered.height
    assert (others.select("unit_up", "unit_down") == 1).to_series().all()
    assert others["push_up"].null_count() == others.height
    for rows in (steered, concepts):
        assert rows["push_up"].null_count() == rows["push_down"].null_count() == 0
        assert rows["unit_up"].is_between(0, MOST_UNIT).all()
    pushes = pl.concat([steered["push_up"], concepts["push_up"]])
    assert float(pushes.std() / pushes.mean()) < 0.35  # type: ignore[operator,arg-type]  # polars: numbers of some kind


def test_evenness_is_measured_with_units_and_without(controlled: Controlled) -> None:
    found = controlled.edit.sae.discovered
    live = [feature for feature in range(found) if controlled.edit.scale_F[feature] > 0][:3]
    units = {"unit_up": [2.0, 1.0, 0.5], "unit_down": [1.0, 1.0, 1.0], "push_up": 0.1}
    features = pl.DataFrame({"feature": live, **units})
    concepts = pl.DataFrame({"unit_up": [1.0], "unit_down": [3.0]})
    figures = push_figures(controlled.edit, controlled.graph, Tables(features, concepts), controlled.people)
    plain, steers = controlled.people.plain, [feature_steer(controlled.edit, row, controlled.people) for row in live]
    steers.append(concept_steer(controlled.edit, controlled.graph, 0, controlled.people))
    ups = [push(plain, steer(0.5 * unit).lists) for steer, unit in zip(steers, (2.0, 1.0, 0.5, 1.0), strict=True)]
    downs = [push(plain, steer(-0.5 * unit).lists) for steer, unit in zip(steers, (1.0, 1.0, 1.0, 3.0), strict=True)]
    assert figures["push_mean"] == pytest.approx(sum(ups) / 4)
    assert figures["push_mean_down"] == pytest.approx(sum(downs) / 4)
    before = torch.tensor([push(plain, steer(0.5).lists) for steer in steers], dtype=torch.float64)
    assert figures["push_cv_before"] == pytest.approx(float(before.std(correction=0) / before.mean()))
    assert push_figures(controlled.edit, controlled.graph, Tables(features[:0], concepts[:0]), controlled.people) == {}
