"""How concentrated top items are: against counts by hand, and where it is known beforehand."""

import math

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_training.evaluation.meaning.monosemanticity import (
    concentration,
    decades,
    facets_of,
    measure_monosemanticity,
)
from tests import planted


def test_concentration_is_counted_by_hand() -> None:
    means_UN = torch.tensor([[9.0, 8.0, 7.0, 6.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, 1.0, 2.0]])
    known_N = torch.tensor([True, True, True, True, True, False])
    member_VN = torch.tensor([[1, 1, 1, 0, 0, 1], [0, 0, 0, 1, 1, 0]], dtype=torch.bool)
    spread = concentration(means_UN, known_N, member_VN, top=4)
    assert spread.units == 1  # the second unit is above zero at two items only
    assert spread.purity == pytest.approx(3 / 4)
    assert spread.lift == pytest.approx((3 / 4) / (3 / 5))
    entropy = [-sum(p * math.log(p) for p in shares) for shares in ((3 / 4, 1 / 4), (3 / 5, 2 / 5))]
    assert spread.entropy == pytest.approx(entropy[0] / entropy[1], rel=1e-5)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_concentration_has_bounds_and_does_not_depend_on_scale_or_order(seed: int, top: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    means_UN = torch.rand(5, 12, generator=generator)
    known_N = torch.ones(12, dtype=torch.bool)
    code_N = torch.randint(3, (12,), generator=generator)
    member_VN = code_N == code_N.unique()[:, None]
    spread = concentration(means_UN, known_N, member_VN, top)
    assert spread.units == 5
    assert 1 / 3 <= spread.purity <= 1
    assert 0 <= spread.entropy <= math.log(3) / 1e-9
    order_N, order_V = torch.randperm(12, generator=generator), torch.randperm(len(member_VN), generator=generator)
    moved = concentration(7 * means_UN[:, order_N], known_N, member_VN[:, order_N], top)
    assert (moved.purity, moved.lift) == pytest.approx((spread.purity, spread.lift))
    assert concentration(means_UN, known_N, member_VN[order_V], top).entropy == pytest.approx(spread.entropy, abs=1e-5)


def test_planted_features_stand_out_from_neurons_and_chance() -> None:
    items = pl.DataFrame({"title": [f"Film {row} ({1950 + row})" for row in range(planted.ITEMS)]})
    facets = facets_of(items, planted.values(), torch.arange(planted.ITEMS) % 4)
    assert [facet.name for facet in facets] == ["genres", "decade", "cluster"]
    measured = measure_monosemanticity(planted.autoencoder(), planted.moments(3000, 0), planted.ITEMS, facets)
    for concentrated in (measured.facets[0], measured.facets[2]):
        # Four features are one value each; the other four go with lists, which have nothing to do with the item.
        assert concentrated.features.units == 8
        assert concentrated.features.purity > concentrated.random.purity + 0.2
        assert concentrated.features.lift > concentrated.random.lift
        assert concentrated.features.purity > concentrated.neurons.purity > concentrated.random.purity
        assert concentrated.features.entropy < concentrated.random.entropy
    decade = measured.facets[1]
    assert decade.features.purity == pytest.approx(decade.random.purity, abs=0.15)


def test_decades_come_from_a_year_or_the_title() -> None:
    titles = ["Toy Story (1995)", "Dracula (1931) ", "Untitled", "2001: A Space Odyssey (1968)"]
    assert decades(pl.DataFrame({"title": titles})).tolist() == [1990, 1930, -1, 1960]
    items = pl.DataFrame({"title": titles, "year": [2001.0, None, float("nan"), 1968.0]})
    assert decades(items).tolist() == [2000, -1, -1, 1960]


def test_facets_without_a_value_are_left_out() -> None:
    items = pl.DataFrame({"title": ["a", "b"]})
    assert [facet.name for facet in facets_of(items, planted.values(), torch.tensor([-1, -1]))] == ["genres"]
