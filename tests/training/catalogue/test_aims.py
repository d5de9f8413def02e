"""What concepts raise: values, and the high side of numeric attributes."""

import numpy as np
import polars as pl
import torch

from steersman_training.catalogue.aims import FARTHEST, Aim, all_aims, with_exposure, with_popularity
from steersman_training.catalogue.attributes import AttributeValues

EVENTS_N = np.array([10.0, 30, 20, 20, 20, 0])


def aims(**numbers: list[float | None]) -> dict[str, Aim]:
    items = with_popularity(
        pl.DataFrame({"row": range(6), **numbers}, schema={"row": pl.Int64} | dict.fromkeys(numbers, pl.Float64)),
        EVENTS_N,
    )
    member_VN = torch.tensor([[True, False, True, False, False, False]])
    return {aim.name: aim for aim in all_aims(AttributeValues([("genres", "Horror")], member_VN), items, EVENTS_N)}


def test_a_value_leans_towards_its_members() -> None:
    horror = aims()["genres:Horror"]
    assert horror.lean_N.tolist() == horror.member_N.tolist() == [1, 0, 1, 0, 0, 0]


def test_a_number_leans_by_its_standard_score_and_is_measured_above_the_median_over_events() -> None:
    year = aims(year=[1950, 1970, 1990, 2000, None, 2100])["year"]
    known_N = np.array([1950, 1970, 1990, 2000, 2100])
    np.testing.assert_allclose(year.lean_N[[0, 1, 2, 3, 5]], (known_N - known_N.mean()) / known_N.std(), rtol=1e-5)
    assert year.lean_N[4] == 0
    assert year.member_N.tolist() == [False, False, True, True, False, True]


def test_a_number_far_off_leans_no_further_than_others_can() -> None:
    items = pl.DataFrame({"size": [0.0] * 99 + [1e6]})
    (size,) = all_aims(AttributeValues([], torch.zeros(0, 100, dtype=torch.bool)), items, np.ones(100))
    assert size.lean_N.max() == FARTHEST


def test_popularity_is_an_aim_of_every_data_set_and_one_that_is_given_goes_before() -> None:
    popularity = aims()["popularity"]
    assert popularity.member_N.tolist() == [False, True, False, False, False, False]
    assert popularity.lean_N[1] == popularity.lean_N.max()
    assert aims(popularity=[6, 5, 4, 3, 2, 1])["popularity"].lean_N.argmax() == 0


def test_exposure_counts_the_lists_that_show_an_item_unless_it_is_given() -> None:
    items = pl.DataFrame({"row": range(4)})
    best_BK = np.array([[0, 1], [0, 2], [2, 0]])
    np.testing.assert_allclose(with_exposure(items, best_BK)["exposure"].exp(), [4, 2, 3, 1])
    given = items.with_columns(exposure=pl.lit(0.5))
    assert with_exposure(given, best_BK).equals(given)


def test_numbers_that_say_nothing_are_no_aims() -> None:
    assert set(aims(same=[1.0] * 6, unknown=[None] * 6)) == {"genres:Horror", "popularity"}
