"""Anchored features: what each goes with, and whether concepts' edits agree with it, where that is known beforehand."""

import pytest
import torch

from steersman_training.autoencoder.sae import Anchors, SparseAutoencoder
from steersman_training.catalogue.aims import Aim
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.evaluation.evaluation import of_one_attribute
from steersman_training.evaluation.meaning.anchors import Weight, measure_agreement, measure_anchors
from steersman_training.evaluation.meaning.units import discovered
from tests import planted

AIMS = [
    Aim(attribute, value, member_N.float(), member_N)
    for (attribute, value), member_N in zip(planted.values().names, planted.values().member_VN, strict=True)
]


@pytest.fixture(scope="module")
def sae() -> SparseAutoencoder:
    """Two discovered features that say nothing; those of the first three values read the list to come, that of the last the wrong one."""
    reading_VD = planted.directions()[[4, 5, 6, 4]]
    found = SparseAutoencoder(planted.HIDDEN, 2, active=2).requires_grad_(False)
    return found.with_anchors(Anchors(reading_VD, torch.zeros(4), reading_VD))


def test_each_anchored_feature_is_measured_with_its_own_value(sae: SparseAutoencoder) -> None:
    fits = measure_anchors(sae, AIMS, planted.moments(2000, seed=1), planted.values())
    assert [(fit.value, fit.feature) for fit in fits] == [("Comedy", 2), ("Crime", 3), ("Horror", 4), ("War", 5)]
    assert [fit.correlation_list for fit in fits[:3]] == pytest.approx([1, 1, 1], abs=1e-4)
    assert [fit.correlation_item for fit in fits] == pytest.approx([0] * 4, abs=0.1)
    assert fits[3].correlation_list < 0
    assert [fit.best_value for fit in fits] == ["Comedy", "Crime", "Horror", "Comedy"]


def test_values_keep_their_features_where_others_stand_between(sae: SparseAutoencoder) -> None:
    values = planted.values()
    horror = AttributeValues(values.names[2:3], values.member_VN[2:3])
    (fit,) = measure_anchors(sae, AIMS, planted.moments(500, seed=1), horror)
    assert (fit.feature, fit.value) == (4, "Horror")
    assert measure_anchors(sae, [], planted.moments(50, seed=1), values) == ()


def test_edits_agree_by_their_sign_and_by_what_their_feature_goes_best_with(sae: SparseAutoencoder) -> None:
    def agreement(*edits: tuple[str, list[Weight]]) -> tuple[float, float]:
        found = measure_agreement(sae, edits, planted.moments(2000, seed=1), planted.values())
        assert found is not None
        return found

    assert agreement(("Comedy", [Weight(2, 3.0, 0.0)])) == (1, 1)
    assert agreement(("Comedy", [Weight(2, 0.0, 3.0)])) == (0, 1)
    # The feature of another value: turned down it has the sign of its correlation, and still another meaning.
    assert agreement(("War", [Weight(5, 1.0, 0.0)])) == (0, 0)
    assert agreement(("War", [Weight(5, 0.0, 1.0)])) == (1, 0)
    assert agreement(("Crime", [Weight(3, 3.0, 0.0), Weight(4, 1.0, 0.0)])) == pytest.approx((0.75, 0.75))
    # Concepts count alike, however strong their edits are.
    assert agreement(("Comedy", [Weight(2, 9.0, 0.0)]), ("War", [Weight(5, 1.0, 0.0)])) == pytest.approx((0.5, 0.5))
    assert measure_agreement(sae, [], planted.moments(50, seed=1), planted.values()) is None


def test_discovered_features_alone_are_those_that_stand_first(sae: SparseAutoencoder) -> None:
    h_SD = planted.moments(200, seed=2).h_SD
    alone = discovered(sae)
    assert torch.equal(alone.encode(h_SD), sae.encode(h_SD)[:, :2])
    assert torch.equal(alone.reconstruct(h_SD), sae.reconstruct(h_SD))
    assert len(sae.decoder_FD) == 6


def test_the_attribute_is_the_first_that_people_gave() -> None:
    member_VN = torch.eye(5, 8) > 0
    names = [
        ("co_consumption", "a"),
        ("genres", "Horror"),
        ("co_consumption", "b"),
        ("genres", "War"),
        ("colour", "red"),
    ]
    found = of_one_attribute(AttributeValues(names, member_VN))
    assert found.names == [("genres", "Horror"), ("genres", "War")]
    assert torch.equal(found.member_VN, member_VN[[1, 3]])
    clusters = AttributeValues(names[:1], member_VN[:1])
    assert of_one_attribute(clusters).names == clusters.names
    assert of_one_attribute(AttributeValues([], member_VN[:0])).names == []
