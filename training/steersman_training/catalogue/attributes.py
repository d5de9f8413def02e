"""Which items have which attribute value. Dimensions: V attribute values, N items, P pairs of a value and an item that has it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from steersman_training.data.attribute_columns import NEARLY_ALL

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Holders(NamedTuple):
    """The items that have each value of one categorical attribute: a pair takes less memory than a row of flags."""

    attribute: str
    values: list[str]
    value_P: IntArray  # ascending
    row_P: IntArray

    @property
    def counts_V(self) -> IntArray:
        """Items of each value."""
        return np.bincount(self.value_P, minlength=len(self.values))

    def shared_V(self, item_count: int, min_items: int) -> BoolArray:
        """Whether enough items have a value, and not (nearly) all."""
        shared: BoolArray = (self.counts_V >= min_items) & (self.counts_V <= NEARLY_ALL * item_count)
        return shared

    def weights_V(self, weights_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum over each value's items."""
        return np.bincount(self.value_P, weights_N[self.row_P], len(self.values)).astype(np.float64)

    def only(self, kept_V: BoolArray) -> "Holders":
        """Some of the values."""
        code_V, kept_P = kept_V.cumsum() - 1, kept_V[self.value_P]
        values = [value for value, kept in zip(self.values, kept_V, strict=True) if kept]
        return Holders(self.attribute, values, code_V[self.value_P[kept_P]], self.row_P[kept_P])


def all_holders(items: pl.DataFrame) -> Iterator[Holders]:
    """Of each attribute of an item table whose categorical attributes are lists of strings; values in the order of their bytes."""
    for attribute in (name for name, kind in items.schema.items() if kind == pl.List(pl.String)):
        pairs = items.select(row=pl.int_range(pl.len()), value=pl.col(attribute).list.unique())
        pairs = pairs.explode("value").drop_nulls().sort("value", "row")
        codes = pairs["value"].rank("dense").cast(pl.Int64) - 1
        values = pairs["value"].unique(maintain_order=True).to_list()
        yield Holders(attribute, values, codes.to_numpy(), pairs["row"].to_numpy())


@dataclass(frozen=True)
class AttributeValues:
    """Values of categorical attributes ("genres", "Horror")."""

    names: list[tuple[str, str]]
    member_VN: Tensor  # bool

    @staticmethod
    def of(items: pl.DataFrame, min_items: int) -> "AttributeValues":
        """All that enough items have, and not (nearly) all."""
        holders = (held.only(held.shared_V(items.height, min_items)) for held in all_holders(items))
        return AttributeValues.held(list(holders), items.height)

    @staticmethod
    def held(holders: list[Holders], item_count: int) -> "AttributeValues":
        names = [(held.attribute, value) for held in holders for value in held.values]
        member_VN = np.zeros((len(names), item_count), dtype=np.bool_)
        first = 0
        for held in holders:
            member_VN[first + held.value_P, held.row_P] = True
            first += len(held.values)
        return AttributeValues(names, torch.from_numpy(member_VN))
