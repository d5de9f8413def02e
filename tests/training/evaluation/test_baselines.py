"""The ways of steering that concepts and features are compared with, PopSteer among them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_training.catalogue.steering import Audience, fisher_information, pull
from steersman_training.evaluation.control.baselines import (
    Steer,
    by_boost,
    by_concept,
    by_direction,
    by_feature,
    difference_of_means,
    feature_directions,
    fit_direction,
    neuron_directions,
    opposite,
    strongest,
)
from steersman_training.evaluation.control.popsteer import (
    EffectSizes,
    effect_sizes,
    head_and_tail,
    popsteer,
    shifts,
    synthetic_states,
)
from steersman_training.evaluation.meaning.units import discovered
from tests.training.controlled import Controlled


@pytest.fixture(scope="module")
def effects(controlled: Controlled) -> EffectSizes:
    head, tail = head_and_tail(controlled.split.popularity())
    lengths = controlled.split.train_ends_U
    states = [synthetic_states(controlled.people.model, pool, lengths, seed=0) for pool in (head, tail)]
    return effect_sizes(discovered(controlled.edit.sae), *states)


def test_strength_0_changes_nothing(controlled: Controlled, effects: EffectSizes) -> None:
    edit, people, member_N = controlled.edit, controlled.people, controlled.aims[0].member_N
    steers: list[Steer] = [
        by_concept(edit, controlled.graph, 0),
        by_feature(edit, 3),
        by_boost(member_N),
        by_direction(difference_of_means(people.h_BD, member_N[people.targets_B])),
        opposite(by_feature(edit, 3)),
        popsteer(discovered(edit.sae), effects, 64, keep_error=True),
    ]
    for steer in steers:
        lists = steer(people, 0.0)
        assert torch.equal(lists.rows_BK, people.plain.rows_BK)
        assert torch.equal(lists.ndcg_B, people.plain.ndcg_B)


def _edits(people: Audience, feature: int, strength: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same edit for all users."""
    features_B1 = torch.full_like(people.targets_B, feature)[:, None]
    strengths_B1 = torch.full_like(people.h_BD[:, :1], strength)
    return features_B1, torch.ones_like(strengths_B1), strengths_B1


def test_scores_moved_along_a_direction_rank_as_the_states_moved_do(controlled: Controlled) -> None:
    edit, people, graph = controlled.edit, controlled.people, controlled.graph
    for strength in (-1.5, 0.7, 3.0):
        pairs = [
            (people.edited(edit, *_edits(people, 3, strength)), by_feature(edit, 3)(people, strength)),
            (people.edited(edit, *people.resolve(graph, 1, strength)), by_concept(edit, graph, 1)(people, strength)),
            (
                people.lists(tilts_N=strength * controlled.aims[2].lean_N),
                by_boost(controlled.aims[2].lean_N)(people, strength),
            ),
        ]
        for plain, fast in pairs:
            assert not torch.equal(plain.rows_BK, people.plain.rows_BK)
            assert torch.equal(plain.rows_BK, fast.rows_BK)
            torch.testing.assert_close(plain.ndcg_B, fast.ndcg_B, check_dtype=False)
        resolved = people.resolve(graph, 1, strength).concept_edits_BE[:, 0]
        torch.testing.assert_close(people.concept_strengths(edit, graph, 1, strength), resolved)


def test_popsteer_as_published_begins_at_the_reconstruction(controlled: Controlled, effects: EffectSizes) -> None:
    sae, people = discovered(controlled.edit.sae), controlled.people
    lists = popsteer(sae, effects, 64, keep_error=False)(people, 0.0)
    assert torch.equal(lists.rows_BK, people.lists(sae.reconstruct(people.h_BD)).rows_BK)


def test_popsteer_turns_the_heads_features_down_and_the_tails_up(controlled: Controlled, effects: EffectSizes) -> None:
    shift_F = shifts(effects, 64)
    assert (effects.d_F > 0).any()
    assert (effects.d_F < 0).any()
    moved_F = shift_F != 0
    assert (shift_F.sign()[moved_F] == -effects.d_F.sign()[moved_F]).all()
    assert int((shifts(effects, 5) != 0).sum()) == 5
    people, popularity_N = controlled.people, torch.from_numpy(controlled.split.popularity())
    steered = popsteer(discovered(controlled.edit.sae), effects, 64, keep_error=True)(people, 1.0)
    assert popularity_N[steered.rows_BK].mean() < popularity_N[people.plain.rows_BK].mean()


@given(st.lists(st.integers(0, 50), min_size=3, max_size=40).filter(any))
@settings(deadline=None)
def test_head_and_tail_are_the_ends_of_popularity(events: list[int]) -> None:
    popularity_N = np.array(events, dtype=np.float64)
    head, tail = head_and_tail(popularity_N)
    assert len(head) >= 1
    assert len(tail) >= 1
    assert popularity_N[head].min() >= popularity_N[tail].max()
    assert len(head) == 1 or popularity_N[head].sum() <= 0.2 * popularity_N.sum() + 1e-9


def test_a_fitted_direction_gains_more_than_the_difference_of_means(controlled: Controlled) -> None:
    people, member_N = controlled.people, controlled.aims[0].member_N
    fitted_D = fit_direction(people, member_N, 2.0)
    wanted_BN = people.log_probabilities(people.h_BD, 2.0 * member_N).exp()

    def divergence(direction_D: torch.Tensor) -> float:
        return float(-(wanted_BN * people.log_probabilities(people.h_BD + direction_D)).sum(-1).mean())

    means_D = difference_of_means(people.h_BD, member_N[people.targets_B])
    others = [strength * means_D for strength in np.linspace(0, 4, 17).tolist()]
    assert divergence(fitted_D) < min(divergence(direction_D) for direction_D in others)
    assert by_direction(fitted_D)(people, 1.0).share(member_N) > people.plain.share(member_N)


def test_the_difference_of_means_is_zero_where_a_side_is_empty() -> None:
    assert not difference_of_means(torch.ones(3, 2), torch.zeros(3, dtype=torch.bool)).any()


def test_pull_is_the_covariance_of_membership_and_scores(controlled: Controlled) -> None:
    people, member_N = controlled.people, controlled.aims[1].member_N
    direction_D = feature_directions(controlled.edit)[3]
    q_BN = people.log_probabilities(people.h_BD).exp()
    change_N = people.model.items.weight @ direction_D
    covariance_B = (q_BN * member_N * change_N).sum(1) - (q_BN * member_N).sum(1) * (q_BN * change_N).sum(1)
    torch.testing.assert_close(pull(people, member_N) @ direction_D, covariance_B.mean(), rtol=1e-3, atol=1e-6)


def test_fisher_information_is_the_covariance_of_items(controlled: Controlled) -> None:
    people = controlled.people
    q_BN = people.log_probabilities(people.h_BD).exp()
    items_ND = people.model.items.weight
    mean_BD = q_BN @ items_ND
    exact_DD = items_ND.T @ (q_BN.mean(0)[:, None] * items_ND) - mean_BD.T @ mean_BD / len(q_BN)
    estimated_DD = fisher_information(people)
    assert (estimated_DD - exact_DD).norm() < 0.2 * exact_DD.norm()


def test_the_strongest_units_are_alive_and_raise_the_attribute(controlled: Controlled) -> None:
    people, member_N = controlled.people, controlled.aims[0].member_N
    directions_UD = torch.cat([feature_directions(controlled.edit), neuron_directions(16)])
    dead_UD = torch.zeros(1, 16)
    pull_D, fisher_DD = pull(people, member_N), fisher_information(people)
    found = strongest(torch.cat([directions_UD, dead_UD]), pull_D, fisher_DD, 5)
    assert 0 < len(found) <= 5
    assert all(unit < len(directions_UD) for unit, _ in found)
    gains = [float(directions_UD[unit] @ pull_D) * step for unit, step in found]
    assert gains == sorted(gains, reverse=True)
    assert all(gain > 0 for gain in gains)
    best, step = found[0]
    small = by_direction(directions_UD[best])(people, step)
    assert small.share(member_N) > people.plain.share(member_N)
