"""Aims of concepts: to raise an attribute value, or large values of a numeric attribute. Dimensions: N items."""

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from steersman_training.catalogue.attributes import AttributeValues

FARTHEST = 3.0  # standard deviations from the mean beyond which a numeric attribute leans no more
NUMERIC = ""  # in place of a value: the concept of a numeric attribute raises large values and, turned down, small ones


class Aim(NamedTuple):
    """A concept to be fitted: `lean_N` is its direction on scores, `member_N` the items whose share of the lists measures it."""

    attribute: str
    value: str
    lean_N: Tensor
    member_N: Tensor

    @property
    def name(self) -> str:
        """The concept's: "genres:Horror", or "year"."""
        return f"{self.attribute}:{self.value}" if self.value != NUMERIC else self.attribute


def with_popularity(items: pl.DataFrame, events_N: np.ndarray) -> pl.DataFrame:
    """The item table with a numeric attribute `popularity`, ln(1 + training events), unless it has one."""
    return items if "popularity" in items.columns else items.with_columns(popularity=np.log1p(events_N))


def with_exposure(items: pl.DataFrame, best_BK: np.ndarray) -> pl.DataFrame:
    """The item table with a numeric attribute `exposure`, ln(1 + users with the item in their best K), unless it has one.

    Popularity counts choices, exposure recommendations: turning exposure down brings overlooked items.
    """
    shown_N = np.bincount(best_BK.flatten(), minlength=items.height)
    return items if "exposure" in items.columns else items.with_columns(exposure=np.log1p(shown_N))


def all_aims(values: AttributeValues, items: pl.DataFrame, events_N: np.ndarray) -> list[Aim]:
    """One for each value, then one for each numeric attribute of the item table. `events_N`: training events of each item.

    A numeric attribute leans by its standard score over items, as a tilt does, and is measured by the items above its median over
    events; unknown values lean by 0.
    """
    categorical = [
        Aim(attribute, value, member_N.float(), member_N)
        for (attribute, value), member_N in zip(values.names, values.member_VN, strict=True)
    ]
    numbers = (name for name, kind in items.schema.items() if kind == pl.Float64)
    numeric = (_two_sided(name, items[name].to_numpy(), events_N) for name in numbers)
    return [*categorical, *(aim for aim in numeric if aim is not None)]


def _two_sided(name: str, values_N: np.ndarray, events_N: np.ndarray) -> Aim | None:
    """None if too few values are known, or all are the same."""
    known_N = np.isfinite(values_N)
    events_N = events_N * known_N
    if events_N.sum() == 0:
        return None
    values_N = np.where(known_N, values_N, 0.0)
    mean, spread = values_N[known_N].mean(), values_N[known_N].std()
    order = np.argsort(values_N)
    median = values_N[order][np.searchsorted(events_N[order].cumsum(), events_N.sum() / 2)]
    member_N = known_N & (values_N > median)
    if spread == 0 or not member_N.any():
        return None
    lean_N = np.where(known_N, (values_N - mean) / spread, 0.0).clip(-FARTHEST, FARTHEST)
    return Aim(name, NUMERIC, torch.from_numpy(lean_N).float(), torch.from_numpy(member_N))


def described(aims: list[Aim], items: pl.DataFrame) -> pl.DataFrame:
    """attributes.parquet: what stands for each attribute in an item's vector; of numbers, how their standard score is made."""
    rows = []
    for aim in aims:
        row: dict[str, Any] = {"name": aim.name, "attribute": aim.attribute, "value": aim.value}
        if aim.value == NUMERIC:
            column = items[aim.attribute]
            known = column.filter(column.is_finite())
            row |= {"mean": known.mean(), "spread": known.std(ddof=0)}
        rows.append(row)
    schema: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(("name", "attribute", "value"), pl.String)
    schema |= dict.fromkeys(("mean", "spread"), pl.Float64)
    return pl.DataFrame(rows, schema=schema)
