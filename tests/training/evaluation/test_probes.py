"""k-sparse probes: what several units tell together."""

import pytest
import torch
from torch.nn import functional as F

from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.evaluation.meaning.probes import RIDGE, Probes, fit_logistic, measure_probes
from tests import planted


@pytest.fixture(scope="module")
def probes() -> Probes:
    sae = planted.autoencoder()
    return measure_probes(sae, planted.moments(1500, 0), planted.moments(1000, 1), planted.values(), sizes=(1, 2, 8))


def test_one_feature_is_enough_where_it_says_all(probes: Probes) -> None:
    assert [probe.size for probe in probes.item] == [1, 2, 8]
    for probe in (*probes.item, *probes.lists):
        assert probe.feature_roc_auc == pytest.approx(1, abs=1e-3)
        assert probe.feature_average_precision == pytest.approx(1, abs=1e-3)


def test_neurons_say_it_only_together(probes: Probes) -> None:
    single, _, all_of_them = probes.item
    assert single.neuron_roc_auc < 0.95
    assert all_of_them.neuron_roc_auc == pytest.approx(1, abs=1e-3)
    assert single.neuron_average_precision < all_of_them.neuron_average_precision


def test_data_without_attributes_has_no_probes() -> None:
    nothing = AttributeValues([], torch.zeros(0, planted.ITEMS, dtype=torch.bool))
    probes = measure_probes(planted.autoencoder(), planted.moments(50, 0), planted.moments(50, 1), nothing)
    assert probes.as_dict() == {"item": (), "lists": ()}


@pytest.mark.parametrize("separable", [False, True])
def test_logistic_regression_ends_where_its_gradient_is_zero(separable: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x_Sk = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    noise_S = torch.randn(200, generator=generator, dtype=torch.float64)
    y_S = (x_Sk[:, 0] - x_Sk[:, 2] + 1 + (0 if separable else noise_S) > 0).double()
    weights = fit_logistic(x_Sk, y_S).requires_grad_(True)
    logits_S = x_Sk @ weights[:-1] + weights[-1]
    loss = F.binary_cross_entropy_with_logits(logits_S, y_S, reduction="sum") + RIDGE * weights[:-1].square().sum() / 2
    (gradient,) = torch.autograd.grad(loss, weights)
    assert float(gradient.abs().max()) < 1e-2
