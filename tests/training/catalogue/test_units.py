"""Correlation, ROC AUC and average precision of units, against their definitions; and means by item."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from steersman_training.autoencoder.sae import SparseAutoencoder
from steersman_training.catalogue.units import BLOCK, correlations, mean_by_item, separation, take
from steersman_training.evaluation.meaning.units import features, neurons


@st.composite
def heights_and_members(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Units with many ties and many zeros, and values of any frequency, none and all among them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    states, units, values = draw(st.integers(2, 40)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    levels = draw(st.sampled_from([1, 2, 5, 1000]))
    heights = rng.integers(-levels // 2 if draw(st.booleans()) else 0, levels, (states, units))
    members = rng.random((states, values)) < draw(st.floats(0, 1))
    return torch.from_numpy(heights.astype(np.float32)), torch.from_numpy(members)


def area_by_definition(x: np.ndarray, member: np.ndarray) -> float:
    pairs = [float(a > b) + 0.5 * float(a == b) for a in x[member] for b in x[~member]]
    return float(np.mean(pairs)) if pairs else 0.5


def average_precision_by_definition(x: np.ndarray, member: np.ndarray) -> float:
    """Over thresholds from above: the recall gained times the precision."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(x.tolist()), reverse=True):
        hits = member[x >= threshold]
        total += (hits.sum() / max(member.sum(), 1) - recall) * hits.mean()
        recall = hits.sum() / max(member.sum(), 1)
    return total


@settings(deadline=None)
@given(heights_and_members())
def test_separation_is_that_of_the_definitions(case: tuple[Tensor, Tensor]) -> None:
    heights, members = case
    dense, sparse = separation(heights, members), separation(heights.to_sparse().coalesce(), members)
    for u in range(heights.shape[1]):
        for v in range(members.shape[1]):
            x, member = heights[:, u].numpy(), members[:, v].numpy()
            np.testing.assert_allclose(dense.roc_auc_UV[u, v], area_by_definition(x, member), atol=1e-6)
            precision = average_precision_by_definition(x, member)
            np.testing.assert_allclose(dense.average_precision_UV[u, v], precision, atol=1e-6)
    torch.testing.assert_close(sparse, dense)


@settings(deadline=None)
@given(heights_and_members())
def test_a_unit_turned_round_separates_as_well_the_other_way(case: tuple[Tensor, Tensor]) -> None:
    heights, members = case
    area_UV = separation(heights, members).roc_auc_UV
    torch.testing.assert_close(separation(-heights, members).roc_auc_UV, 1 - area_UV)
    torch.testing.assert_close(separation(heights, ~members).roc_auc_UV, 1 - area_UV)


@settings(deadline=None)
@given(heights_and_members(), st.integers(0, 2**32 - 1))
def test_only_the_order_of_heights_counts_and_not_that_of_states(case: tuple[Tensor, Tensor], seed: int) -> None:
    heights, members = case
    order = torch.randperm(len(heights), generator=torch.Generator().manual_seed(seed))
    stretched = heights.double().pow(3).mul(2).add(7)
    torch.testing.assert_close(separation(stretched[order], members[order]), separation(heights, members))


@settings(deadline=None)
@given(heights_and_members())
def test_correlation_is_numpys(case: tuple[Tensor, Tensor]) -> None:
    heights, members = case
    correlation_UV = correlations(heights, members)
    torch.testing.assert_close(correlations(heights.to_sparse().coalesce(), members), correlation_UV)
    for u in range(heights.shape[1]):
        for v in range(members.shape[1]):
            x, y = heights[:, u].double().numpy(), members[:, v].double().numpy()
            expected = np.corrcoef(x, y)[0, 1] if x.std() and y.std() else 0.0
            np.testing.assert_allclose(correlation_UV[u, v], expected, atol=1e-6)


def test_more_units_than_a_block_holds_come_back_in_their_order() -> None:
    rng = np.random.default_rng(0)
    units = torch.from_numpy(rng.normal(size=(30, 2 * BLOCK + 3)).astype(np.float32))
    member = torch.from_numpy(rng.random((30, 2)) < 0.5)
    last = torch.tensor([2 * BLOCK + 2])
    torch.testing.assert_close(
        separation(units, member).roc_auc_UV[last], separation(units[:, last], member).roc_auc_UV
    )
    torch.testing.assert_close(correlations(units, member)[last], correlations(units[:, last], member))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_sparse_activations_are_the_autoencoders(seed: int) -> None:
    torch.manual_seed(seed)
    sae, h_SD = SparseAutoencoder(6, 20, 3).requires_grad_(False), torch.randn(50, 6)
    torch.testing.assert_close(features(sae, h_SD).to_dense(), sae.encode(h_SD))
    torch.testing.assert_close(take(features(sae, h_SD), torch.tensor([7, 2])), sae.encode(h_SD)[:, [7, 2]])


def test_neurons_speak_with_either_sign_about_their_mean() -> None:
    h_SD = torch.tensor([[1.0, 5.0], [3.0, 1.0]])
    assert neurons(h_SD, h_SD.mean(0)).tolist() == [[-1.0, 2.0, 1.0, -2.0], [1.0, -2.0, -1.0, 2.0]]


def test_means_by_item_leave_out_items_with_few_states() -> None:
    items_S = torch.tensor([0] * 6 + [1] * 5 + [2] * 4)
    units_SU = torch.arange(15.0)[:, None].repeat(1, 2) * torch.tensor([1.0, 0.0])
    means = mean_by_item(units_SU, items_S, item_count=4)
    assert means.known_N.tolist() == [True, True, False, False]
    assert means.means_UN.tolist() == [[2.5, 8.0, 0.0, 0.0], [0.0] * 4]
    torch.testing.assert_close(mean_by_item(units_SU.to_sparse().coalesce(), items_S, 4), means)
