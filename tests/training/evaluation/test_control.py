"""Curves, matched shares, intervals, and the study on a tiny recommender."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_training.catalogue.aims import Aim
from steersman_training.evaluation.bootstrap import bootstrap, bootstrap_quantile, ratio
from steersman_training.evaluation.control.baselines import by_boost, by_concept, by_feature
from steersman_training.evaluation.control.control import (
    CoOccurrence,
    SteeringPath,
    at_loss,
    matched,
    measure_curve,
    overlap,
    reach,
    spearman,
)
from steersman_training.evaluation.control.popsteer import EffectSizes, effect_sizes, head_and_tail, synthetic_states
from steersman_training.evaluation.control.study import Labelled, StudyConfig, Subject, study_controls
from steersman_training.evaluation.meaning.units import discovered
from tests.training.controlled import Controlled


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(200):
        base_B = torch.rand(60, generator=generator) + 0.5
        interval = bootstrap([base_B * (0.8 + 0.4 * torch.rand(60, generator=generator)), base_B], ratio, resamples=300)
        covered += interval.low <= 1.0 <= interval.high
        assert interval.low <= interval.value <= interval.high
    assert 180 <= covered <= 199


def test_the_interval_of_a_mean_is_the_normal_one_of_many_users() -> None:
    values_B = torch.rand(400, generator=torch.Generator().manual_seed(2)) + 3
    interval = bootstrap([values_B], resamples=4000)
    error = float(values_B.std()) / 20
    assert interval.value == pytest.approx(float(values_B.mean()))
    assert interval.low == pytest.approx(interval.value - 1.96 * error, abs=error / 10)
    assert interval.high == pytest.approx(interval.value + 1.96 * error, abs=error / 10)


def test_methods_are_resampled_in_pairs() -> None:
    noisy_B = torch.rand(50, generator=torch.Generator().manual_seed(1)) + 0.1
    interval = bootstrap([0.9 * noisy_B, noisy_B], ratio)
    assert interval.low == pytest.approx(0.9)
    assert interval.high == pytest.approx(0.9)


def test_the_interval_of_a_quantile_covers_the_truth_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(100):
        columns = [torch.rand(400, generator=generator), 2 * torch.rand(400, generator=generator)]
        interval = bootstrap_quantile(columns, 0.8)
        covered += interval.low <= 1.2 <= interval.high
        assert interval.low <= interval.value <= interval.high
    assert covered >= 88
    assert bootstrap_quantile([torch.tensor([4.0, 1.0, 3.0, 2.0])], 0.75).value == 3
    assert bootstrap_quantile([torch.arange(100.0)], 0.95).value == 94


@given(st.lists(st.integers(0, 4), min_size=2, max_size=12))
@settings(deadline=None)
def test_spearman_is_the_correlation_of_mean_ranks(values: list[int]) -> None:
    by = np.arange(len(values), dtype=float)
    ranks = np.array([np.mean([place for place, v in enumerate(sorted(values)) if v == value]) for value in values])
    expected = 0.0 if len(set(values)) == 1 else float(np.corrcoef(ranks, by)[0, 1])
    got = spearman(torch.tensor([values], dtype=torch.float64), torch.from_numpy(by))
    assert float(got) == pytest.approx(expected, abs=1e-9)


@given(st.floats(0.02, 30), st.floats(0.05, 0.9))
@settings(max_examples=60, deadline=None)
def test_reach_finds_the_least_strength(scale: float, goal: float) -> None:
    def share(at: float) -> float:  # rises, and falls again
        return math.sin(min(at / scale, math.pi))

    found = reach(share, goal, scale / 20)
    assert found is not None
    assert goal <= share(found) <= goal + 0.004
    assert found / scale < math.pi / 2
    assert reach(share, 1.1, scale / 20) is None
    assert reach(share, -1.0, scale / 20) == 0.0


def test_overlap_counts_items_wherever_they_stand() -> None:
    assert overlap(torch.tensor([[1, 2, 3, 4]]), torch.tensor([[4, 9, 1, 8]])).tolist() == [0.5]


def test_score_boosting_raises_every_share_monotonically(controlled: Controlled) -> None:
    member_N = controlled.aims[0].member_N
    boost = by_boost(member_N)
    shares = torch.stack([boost(controlled.people, tilt).share_B(member_N) for tilt in np.linspace(-6, 6, 13)])
    assert (shares.diff(dim=0) >= 0).all()
    assert shares[0].mean() < shares[-1].mean()


def test_matched_shares_are_reached_or_said_not_to_be(controlled: Controlled) -> None:
    member_N, people = controlled.aims[0].member_N, controlled.people
    goal = people.plain.share(member_N) + 0.2
    boost, boosted = matched("boost", SteeringPath(people, by_boost(member_N)), member_N, goal, 0.25, None)
    assert boost.reached
    assert goal <= boost.share < goal + 0.05
    assert boost.to_boost is None
    concept = SteeringPath(people, by_concept(controlled.edit, controlled.graph, 0))
    steered, _ = matched("concept", concept, member_N, goal, 0.25, boosted)
    assert steered.to_boost is not None
    assert steered.to_boost.value == pytest.approx(steered.kept.value / boost.kept.value)
    never, _ = matched("boost", SteeringPath(people, by_boost(member_N)), member_N, 1.1, 0.25, boosted)
    assert not never.reached
    assert never.to_boost is None


def test_a_loss_is_reached_at_the_least_strength(controlled: Controlled) -> None:
    member_N = controlled.aims[0].member_N
    path = SteeringPath(controlled.people, by_boost(member_N))
    effect = at_loss(path, member_N, 0.25, 0.05)
    assert effect.strength is not None
    assert effect.kept <= 0.95
    assert effect.multiplied > 1
    assert path.kept(0.25 * effect.strength) > effect.kept


def test_score_boosting_drifts_nowhere_and_strength_0_changes_nothing(controlled: Controlled) -> None:
    people, member_VN = controlled.people, torch.stack([aim.member_N for aim in controlled.aims[:4]])
    co_occurrence = CoOccurrence.of(people, member_VN, 0)
    log_popularity_N = torch.from_numpy(np.log1p(controlled.split.popularity()))
    path = SteeringPath(people, by_boost(member_VN[0]))
    curve = measure_curve("boost", path, [-2.5, 0.0, 0.5, 1.0, 2.0], co_occurrence, log_popularity_N)
    assert curve.monotonicity == pytest.approx(1.0)
    assert 0 < curve.monotonicity_users <= 1
    assert curve.rises
    assert all(point.drift == pytest.approx(0.0, abs=1e-9) for point in curve.points)
    still = curve.points[1]
    assert (still.kept.value, still.overlap, still.drift, still.log_popularity, still.share_sd) == (1, 1, 0, 0, 0)
    assert still.rbo == pytest.approx(1.0)
    up, down = curve.points[-1].kept_takers, curve.points[0].kept_takers
    assert up is not None
    assert down is not None
    assert up.value > 1 > down.value
    steered = SteeringPath(people, by_feature(controlled.edit, 3))
    moved = measure_curve("feature", steered, [0.0, 2.0], co_occurrence, log_popularity_N)
    assert moved.points[1].overlap < 1
    assert moved.points[1].drift > 0


@pytest.fixture(scope="module")
def subject(controlled: Controlled) -> Subject:
    popularity_N = controlled.split.popularity()
    edit, graph, aims, _, learners, people = controlled
    return Subject(edit, graph, aims, [(1.0, 1.0)] * len(aims), learners, people, popularity_N)


@pytest.fixture(scope="module")
def effects(controlled: Controlled) -> EffectSizes:
    pools = head_and_tail(controlled.split.popularity())
    states = [synthetic_states(controlled.people.model, pool, np.full(50, 9), seed=0) for pool in pools]
    return effect_sizes(discovered(controlled.edit.sae), *states)


SMALL = StudyConfig(
    curve_users=60, choosers=60, candidates=3, random=1, concept_strengths=(-1, 0, 1), feature_strengths=(0, 1)
)


def test_features_can_be_studied_where_no_attribute_is_known(subject: Subject, effects: EffectSizes) -> None:
    clusters = Labelled(3, Aim("cluster", "1", subject.aims[0].lean_N, subject.aims[0].member_N), (1.0, 1.0))
    report = study_controls(subject._replace(aims=[]), "genres", [clusters], effects, SMALL)
    assert not report.attributes
    assert set(report.keys) == {"monotone", "monotone_features"}
    assert report.features[0].curve.points[1].drift == 0  # nothing else is known to move


def test_the_edits_of_concepts_are_those_that_reach_the_goal(subject: Subject, effects: EffectSizes) -> None:
    report = study_controls(subject, "genres", [], effects, SMALL)
    means = []
    for row, control in enumerate(report.attributes):
        (at_goal,) = (
            each for each in control.matched if (each.method, each.goal) == ("concept", control.matched[0].goal)
        )
        if at_goal.strength is not None:
            assert control.edits.concept_strength == at_goal.strength
        edits_BE = subject.people.resolve(subject.concepts, row, control.edits.concept_strength).concept_edits_BE
        means.append(float(edits_BE.abs().mean()))
        assert control.edits.strength == pytest.approx(means[-1], rel=1e-5)
        assert control.edits.strength_95 >= float(edits_BE.abs().median())
        (edited,) = control.edits.features
        assert edited.feature == subject.edit.sae.discovered + row
        assert edited.raised + edited.lowered == pytest.approx(control.edits.strength, rel=1e-5)
    assert report.keys["concept_strength"] == pytest.approx(np.mean(means))
    assert report.keys["concepts_within_2"] == np.mean([strength <= 2 for strength in means])
    beyond = [each.name for each, strength in zip(report.attributes, means, strict=True) if strength > 2]
    assert report.keys["concepts_beyond_2"] == beyond
    interval = report.intervals["concept_strength"]
    assert interval.low <= interval.value <= interval.high


def test_single_features_of_a_study_are_discovered_ones(subject: Subject, effects: EffectSizes) -> None:
    found = subject.edit.sae.discovered
    report = study_controls(subject, "genres", [], effects, SMALL)
    units = [each.feature for each in report.attributes] + [
        None if each.one_feature is None else each.one_feature.feature for each in report.attributes
    ]
    assert all(unit is None or unit < found for unit in units)
    assert any(unit is not None for unit in units)


def test_the_study_prints_every_key_and_no_tensors(
    controlled: Controlled, subject: Subject, effects: EffectSizes
) -> None:
    labelled = [Labelled(row, aim, (1.0, 1.0)) for row, aim in zip((3, 5), controlled.aims, strict=False)]
    report = study_controls(subject, "genres", labelled, effects, SMALL)
    assert [each.name for each in report.attributes] == [
        f"genres:{name}" for name in ("Comedy", "Crime", "Horror", "War")
    ]
    expected = {"concept_to_boost", "concept_to_boost_50", "feature_to_boost", "one_feature_share_x", "monotone"}
    expected |= {"tail_coverage_x_popsteer", "tail_coverage_x_popsteer_error_kept", "feature_to_boost_unreached"}
    assert expected <= set(report.keys)
    first = report.attributes[0]
    assert {result.method for result in first.matched} >= {
        "boost",
        "concept",
        "feature",
        "direction",
        "means",
        "neuron",
    }
    assert len(report.features) == 2
    concepts, published, error_kept = (report.tail[:2], report.tail[2], report.tail[3])
    assert [covered.method for covered in concepts] == ["concept popularity", "concept exposure"]
    assert [covered.method for covered in report.tail[4:]] == ["log-popularity penalty", "exposure tilt", "none"]
    assert published.times_popsteer is None
    assert error_kept.times_error_kept is None
    assert error_kept.method.endswith("error kept")
    assert not published.method.endswith("error kept")
    (best,) = (covered for covered in concepts if covered.best_concept)
    assert report.intervals["tail_coverage_x_popsteer"] == best.times_popsteer
    assert all(covered.kept >= 0.95 for covered in report.tail if covered.strength > 0)
    parsed = json.loads(report.as_json())
    interval = parsed["intervals"]["concept_to_boost"]
    assert interval["low"] <= parsed["keys"]["concept_to_boost"] <= interval["high"]
