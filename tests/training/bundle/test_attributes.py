"""The vectors of attributes in a bundle: what they stand for, and what a new item's vector is made of."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.synthetic import GENRES


def test_a_row_of_the_table_says_what_each_vector_stands_for(bundle_dir: Path) -> None:
    table, items = (pl.read_parquet(bundle_dir / f"{name}.parquet") for name in ("attributes", "items"))
    vectors_VD = np.load(bundle_dir / "attributes.npy")
    assert vectors_VD.dtype == np.float32
    assert vectors_VD.shape == (table.height, np.load(bundle_dir / "items.npy").shape[1])
    names, clusters = table["name"].to_list(), table.filter(pl.col("attribute") == "co_consumption")
    assert names[: len(GENRES)] == [f"genres:{genre}" for genre in GENRES]
    assert names[-2:] == ["year", "popularity"]
    assert table.height == len(GENRES) + clusters.height + 2
    # All that concepts are made of but what is known of items only after training.
    concepts = pl.read_parquet(bundle_dir / "concepts.parquet")["name"].to_list()
    assert names == [name for name in concepts if name != "exposure"]
    for row in table.iter_rows(named=True):
        if row["value"]:
            assert row["mean"] is row["spread"] is None
        else:
            numbers_N = items[row["name"]].to_numpy()
            assert (row["mean"], row["spread"]) == pytest.approx((numbers_N.mean(), numbers_N.std()))


def test_a_vector_made_of_a_new_items_values_lies_where_those_of_such_items_do(bundle_dir: Path) -> None:
    table, items = (pl.read_parquet(bundle_dir / f"{name}.parquet") for name in ("attributes", "items"))
    vectors_VD, items_ND = np.load(bundle_dir / "attributes.npy"), np.load(bundle_dir / "items.npy")

    def made(values: Mapping[str, float | str]) -> np.ndarray:
        amounts = [
            float(values.get(row["attribute"]) == row["value"])
            if row["value"]
            else float(np.clip((values[row["attribute"]] - row["mean"]) / row["spread"], -3, 3))
            for row in table.iter_rows(named=True)
        ]
        vector_D: np.ndarray = np.array(amounts) @ vectors_VD
        return vector_D

    of_one = {genre: np.array([values == [genre] for values in items["genres"].to_list()]) for genre in GENRES}
    for genre in GENRES:
        numbers = {name: float(items[name].to_numpy().mean()) for name in ("year", "popularity")}
        alike_N = items_ND @ made({"genres": genre, **numbers})
        means = {other: alike_N[of_one[other]].mean() for other in GENRES}
        assert max(means, key=lambda other: means[other]) == genre
