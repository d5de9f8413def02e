"""Monosemanticity: how concentrated a unit's top items are over attribute values, decades and co-consumption clusters.

Dimensions: U units, V values of a facet, N items, K top items.
"""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from steersman_training.autoencoder.moments import Moments
from steersman_training.autoencoder.sae import SparseAutoencoder
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.catalogue.clusters import ATTRIBUTE as CLUSTER
from steersman_training.catalogue.units import mean_by_item
from steersman_training.data.titles import YEAR
from steersman_training.evaluation.meaning.units import features, neurons

TOP_ITEMS = 10
"""Top items of a unit."""


class Facet(NamedTuple):
    """One partition of the items."""

    name: str
    member_VN: Tensor  # bool


@dataclass(frozen=True)
class Spread:
    """Means over units."""

    units: int
    """Units counted: those above zero at enough items to have a full set of top items."""
    purity: float
    """Share of the top items that have the most frequent value among them."""
    lift: float
    """That share as a multiple of the value's share of all items."""
    entropy: float
    """Of the values among the top items, over that among all items: 0 where the top items are all alike."""


@dataclass(frozen=True)
class Concentration:
    """Of one facet. Ten items drawn at random are concentrated too, by chance: that is what `random` shows."""

    facet: str
    features: Spread
    """The discovered ones."""
    anchored: Spread
    neurons: Spread
    random: Spread


@dataclass(frozen=True)
class Monosemanticity:
    """Over all facets."""

    facets: tuple[Concentration, ...]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def facets_of(items: pl.DataFrame, values: AttributeValues, cluster_N: Tensor) -> list[Facet]:
    """Each attribute of `values`, decades where years are known, and clusters (-1: none), those without a value left out."""
    attributes = dict.fromkeys(attribute for attribute, _ in values.names if attribute != CLUSTER)
    members = {
        attribute: values.member_VN[torch.tensor([name == attribute for name, _ in values.names])]
        for attribute in attributes
    }
    members |= {"decade": _one_hot(decades(items)), "cluster": _one_hot(cluster_N)}
    return [Facet(name, member_VN) for name, member_VN in members.items() if len(member_VN)]


def decades(items: pl.DataFrame) -> Tensor:
    """First year of each item's decade, from a numeric attribute `year` or else the year at the end of its title; -1 unknown. (N,)"""
    year = pl.col("title").str.extract(YEAR).cast(pl.Float64)
    if items.schema.get("year") == pl.Float64:
        year = pl.col("year").fill_nan(None)
    decade = items.select((year // 10 * 10).cast(pl.Int64).fill_null(-1)).to_series()
    return torch.tensor(decade.to_list())


def _one_hot(code_N: Tensor) -> Tensor:
    """A row a value, -1 being none. (V, N)"""
    known = code_N[code_N >= 0].unique()
    return torch.eq(code_N, known[:, None])


@torch.no_grad()
def measure_monosemanticity(
    sae: SparseAutoencoder, states: Moments, item_count: int, facets: list[Facet], top: int = TOP_ITEMS, seed: int = 0
) -> Monosemanticity:
    """Of the autoencoder's discovered and anchored features, neurons (both signs, about their mean), and sets of items drawn at random."""
    feature_FN, known_N = mean_by_item(features(sae, states.h_SD), states.items_S, item_count)
    neuron_UN, _ = mean_by_item(neurons(states.h_SD, states.h_SD.mean(0)), states.items_S, item_count)
    found_FN, anchored_FN = feature_FN[: sae.discovered], feature_FN[sae.discovered :]
    drawn_FN = torch.rand(found_FN.shape, generator=torch.Generator().manual_seed(seed)).to(known_N.device)
    return Monosemanticity(
        tuple(
            Concentration(
                facet.name,
                *(
                    concentration(means_UN * known_N, known_N, facet.member_VN.to(known_N.device), top)
                    for means_UN in (found_FN, anchored_FN, neuron_UN, drawn_FN)
                ),
            )
            for facet in facets
        )
    )


def concentration(means_UN: Tensor, known_N: Tensor, member_VN: Tensor, top: int) -> Spread:
    """Of the `top` items with the highest means of each unit, among the known ones (all of them, if there are fewer)."""
    top = min(top, int(known_N.sum()))
    best_UK = means_UN.topk(top, dim=1)
    rows_UK = best_UK.indices[best_UK.values[:, -1] > 0]
    if not len(rows_UK):
        return Spread(0, 0.0, 0.0, 0.0)
    member_NV = member_VN.T.float()
    counts_UV = torch.zeros(len(rows_UK), len(member_VN), device=member_NV.device)
    for rows_U in rows_UK.T:
        counts_UV += member_NV[rows_U]
    base_V = member_NV[known_N].mean(0)
    most_U = counts_UV.max(1)
    entropy = float(_entropy(base_V[None])[0])
    return Spread(
        units=len(rows_UK),
        purity=float((most_U.values / top).mean()),
        lift=float((most_U.values / top / base_V[most_U.indices].clamp_min(1e-9)).mean()),
        entropy=float(_entropy(counts_UV).mean()) / entropy if entropy else 0.0,
    )


def _entropy(weights_UV: Tensor) -> Tensor:
    """In nats, of each row as a distribution; 0 for a row of zeros. (U,)"""
    p_UV = weights_UV / weights_UV.sum(1, keepdim=True).clamp_min(1e-9)
    entropy_U: Tensor = torch.special.entr(p_UV).sum(1)
    return entropy_U
