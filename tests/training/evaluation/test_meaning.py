"""What single features and neurons tell, where that is known beforehand; and the detection score of labels."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.evaluation.meaning.meaning import Meaning, detection, measure_meaning
from tests import planted


@pytest.fixture(scope="module")
def meaning() -> Meaning:
    sae = planted.autoencoder()
    return measure_meaning(sae, planted.moments(2000, seed=0), planted.moments(1500, seed=1), planted.values())


def test_planted_features_are_found_and_tell_all_there_is_to_tell(meaning: Meaning) -> None:
    for v, fit in enumerate(meaning.item.values):
        assert fit.feature.unit == v
        assert fit.feature.correlation == pytest.approx(1, abs=1e-4)
        assert fit.feature.roc_auc == pytest.approx(1)
        assert fit.feature.average_precision == pytest.approx(1)
        assert fit.feature.precision == pytest.approx(1)
        assert fit.mean == fit.base_rate == pytest.approx(0.25, abs=0.05)
    for v, fit in enumerate(meaning.lists.values):
        assert fit.feature.unit == 4 + v
        assert fit.feature.correlation == pytest.approx(1, abs=1e-4)
        assert fit.feature.best_average_precision == pytest.approx(1)
        assert fit.mean == pytest.approx(0.25, abs=0.02)


def test_neurons_are_measured_by_the_same_rule_with_either_sign(meaning: Meaning) -> None:
    measured, chosen = planted.moments(1500, seed=1), planted.moments(2000, seed=0)
    member_VN = planted.values().member_VN
    for v, fit in enumerate(meaning.item.values):
        on_chosen, on_measured = (
            np.corrcoef(part.h_SD.T.numpy(), member_VN[v][part.items_S].numpy())[-1, :-1] for part in (chosen, measured)
        )
        best = int(np.abs(on_chosen).argmax())
        assert (fit.neuron.unit, fit.neuron.sign) == (best, int(np.sign(on_chosen[best])))
        assert fit.neuron.correlation == pytest.approx(abs(on_measured[best]), abs=1e-5)
        assert fit.neuron.roc_auc > 0.5
        assert fit.neuron.density == pytest.approx(0.5, abs=0.3)


def test_units_are_chosen_without_a_look_at_what_they_are_measured_on() -> None:
    chosen, measured = planted.moments(2000, seed=0), planted.moments(1500, seed=1)
    told_SF = measured.h_SD @ planted.directions().T
    moved = measured._replace(h_SD=told_SF.roll(1, dims=1) @ planted.directions())
    meaning = measure_meaning(planted.autoencoder(), chosen, moved, planted.values())
    for v, fit in enumerate(meaning.item.values):
        assert fit.feature.unit == v
        assert fit.feature.correlation < 0.1
        assert max(fit.feature.best_roc_auc, fit.feature.best_average_precision) < 0.6


def test_published_figures_are_means_over_values_and_their_multiple(meaning: Meaning) -> None:
    figures = meaning.figures()
    assert figures["corr_item"] == pytest.approx(1, abs=1e-4)
    neuron = np.mean([fit.neuron.correlation for fit in meaning.item.values])
    assert figures["corr_item_x_neuron"] == pytest.approx(figures["corr_item"] / neuron)
    assert figures["corr_list_x_neuron"] > 1
    assert json.loads(json.dumps(meaning.as_dict()))["item"]["values"][3]["value"] == "War"


def test_data_without_attributes_has_nothing_to_tell() -> None:
    nothing = AttributeValues([], torch.zeros(0, planted.ITEMS, dtype=torch.bool))
    meaning = measure_meaning(planted.autoencoder(), planted.moments(50, 0), planted.moments(50, 1), nothing)
    assert meaning.item.values == meaning.lists.values == ()
    assert meaning.figures()["corr_item"] == 0


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(2, 30))
def test_detection_is_the_auc_of_the_feature_over_items_that_are_left(seed: int, features: int, items: int) -> None:
    rng = np.random.default_rng(seed)
    means = rng.integers(0, 4, (features, items)).astype(np.float32)
    predicted, excluded = rng.random((2, features, items)) < 0.4
    arguments = [torch.from_numpy(part) for part in (means, predicted, excluded)]
    score = detection(*arguments)
    for f in range(features):
        yes, no = means[f, predicted[f] & ~excluded[f]], means[f, ~predicted[f] & ~excluded[f]]
        if len(yes) and len(no):
            expected = np.mean([float(a > b) + 0.5 * float(a == b) for a in yes for b in no])
            assert float(score[f]) == pytest.approx(expected, abs=1e-6)
        else:
            assert torch.isnan(score[f])
    flipped = detection(arguments[0], ~arguments[1], arguments[2])
    torch.testing.assert_close(flipped, 1 - score, equal_nan=True)


def test_a_label_that_is_sure_where_the_feature_is_strong_detects_it_better() -> None:
    means, none = torch.tensor([[3.0, 2.0, 1.0, 0.0]]), torch.zeros(1, 4, dtype=torch.bool)
    sure = detection(means, torch.tensor([[0.9, 0.6, 0.4, 0.1]]), none)
    assert 0.5 < float(detection(means, torch.tensor([[0.6, 0.5, 0.5, 0.4]]), none)) < float(sure) < 1
