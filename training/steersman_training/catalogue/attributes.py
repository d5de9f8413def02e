"""Which items have which attribute value. Dimensions: V attribute values, N items."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from steersman_training.data.attribute_columns import NEARLY_ALL


@dataclass(frozen=True)
class AttributeValues:
    """Values of the categorical attributes that enough items have ("genres", "Horror"), and not (nearly) all."""

    names: list[tuple[str, str]]
    member_VN: Tensor  # bool

    @staticmethod
    def of(items: pl.DataFrame, min_items: int) -> "AttributeValues":
        """From an item table whose categorical attributes are lists of strings."""
        names, members = [], []
        for attribute in (name for name, kind in items.schema.items() if kind == pl.List(pl.String)):
            values = items.select(row=pl.int_range(pl.len()), value=pl.col(attribute).list.unique())
            exploded = values.explode("value").drop_nulls()
            for (value,), group in sorted(exploded.group_by("value"), key=lambda pair: str(pair[0][0])):
                if min_items <= group.height <= NEARLY_ALL * items.height:
                    member_N = np.zeros(items.height, dtype=np.bool_)
                    member_N[group["row"].to_numpy()] = True
                    names.append((attribute, str(value)))
                    members.append(member_N)
        stacked = np.stack(members) if members else np.zeros((0, items.height), dtype=np.bool_)
        return AttributeValues(names, torch.from_numpy(stacked))
