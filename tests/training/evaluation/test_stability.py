"""Which features are found again: the same in another order, none of them, and by items only."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_training.autoencoder.sae import SparseAutoencoder
from steersman_training.evaluation.meaning.stability import best_match, measure_stability
from tests import planted


def reordered(sae: SparseAutoencoder, order_F: torch.Tensor) -> SparseAutoencoder:
    other = SparseAutoencoder(planted.HIDDEN, len(order_F), len(order_F)).requires_grad_(False)
    other.decoder_FD.copy_(sae.decoder_FD[order_F])
    other.encoder_FD.copy_(sae.encoder_FD[order_F])
    return other


def test_the_same_features_in_another_order_are_all_found_again() -> None:
    sae = planted.autoencoder()
    other = reordered(sae, torch.tensor([3, 1, 7, 0, 2, 6, 5, 4]))
    found = measure_stability(sae, other, planted.moments(500, 0), planted.ITEMS)
    assert found.live == 8
    assert (found.stable, found.stable_one_to_one, found.stable_by_items, found.item_jaccard) == (1, 1, 1, 1)
    assert found.cosine == pytest.approx(1)
    assert found.item_correlation == pytest.approx(1, abs=1e-5)
    assert found.cosine_by_chance < 0.95
    assert json.loads(json.dumps(found.as_dict()))["stable"] == 1


def test_features_that_the_other_lacks_are_not_found() -> None:
    sae = planted.autoencoder()
    found = measure_stability(sae, reordered(sae, torch.arange(6)), planted.moments(500, 0), planted.ITEMS)
    assert found.live == 8
    assert found.stable == found.stable_one_to_one == pytest.approx(6 / 8)
    assert found.cosine == pytest.approx(6 / 8, abs=1e-5)


def test_two_features_that_share_a_match_are_found_once_only_one_to_one() -> None:
    sae = planted.autoencoder()
    split = reordered(sae, torch.tensor([0, 0, 1]))
    found = measure_stability(split, reordered(sae, torch.tensor([0, 1])), planted.moments(500, 0), planted.ITEMS)
    assert (found.live, found.stable) == (3, 1)
    assert found.stable_one_to_one == pytest.approx(2 / 3)


def test_a_feature_that_writes_elsewhere_is_found_by_its_items_only() -> None:
    sae, other = planted.autoencoder(), planted.autoencoder()
    other.decoder_FD.copy_(-planted.directions())
    found = measure_stability(sae, other, planted.moments(500, 0), planted.ITEMS)
    assert (found.stable, found.stable_by_items) == (0, 1)


def test_features_that_never_fire_do_not_count() -> None:
    sae, silent = planted.autoencoder(), planted.autoencoder()
    sae.encoder_bias_F[2:] = -100
    silent.encoder_bias_F[:] = -100
    states = planted.moments(500, 0)
    assert measure_stability(sae, planted.autoencoder(), states, planted.ITEMS).live == 2
    none = measure_stability(silent, sae, states, planted.ITEMS)
    assert (none.live, none.stable, none.cosine) == (0, 0, 0)
    assert measure_stability(sae, silent, states, planted.ITEMS).stable == 0


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 600), st.integers(1, 9))
def test_best_match_is_the_highest_cosine_whatever_the_lengths(seed: int, rows: int, others: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    one_FD, other_GD = torch.randn(rows, 5, generator=generator), torch.randn(others, 5, generator=generator)
    cosine_F, match_F = best_match(one_FD, other_GD)
    all_FG = torch.cosine_similarity(one_FD[:, None], other_GD[None], dim=2)
    torch.testing.assert_close(cosine_F, all_FG.amax(1))
    assert match_F.tolist() == all_FG.argmax(1).tolist()
    torch.testing.assert_close(best_match(3 * one_FD, other_GD)[0], cosine_F)
