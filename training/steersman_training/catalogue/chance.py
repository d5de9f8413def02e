"""Whether the items of a value are taken up together, or lie as chance would have it.

Dimensions: V values, P pairs of a value and an item, M items met often enough, R rank, D draws.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman_training.catalogue.attributes import BoolArray, Holders
from steersman_training.catalogue.clusters import Clusters

DRAWS = 200  # of random items in place of a value's own
STRATUM = 32  # items of about the same number of events: a random item is drawn from the stratum of the item that it stands for
LEAST_SPREAD = 1e-4  # of the figures of random sets, to their mean: below, all sets are the same, as those of one item
FALSE_SHARE = 0.005
"""Share of chance values among those that are kept. An attribute of chance keeps a value about once in a hundred times (12 of 900)."""


def say_something(holders: list[Holders], clusters: Clusters, events_N: npt.NDArray[np.float64]) -> list[BoolArray]:
    """Which values of each attribute have items that are taken up together more than random items of as many events. (V,) each

    A value's figure is how far its items lie from the middle of the space of co-consumption, together. It is compared with that of
    DRAWS sets of random items, in standard deviations (z). Its p-value is the share of all values' random sets with a z as
    large; those of an attribute are judged together, by the procedure of Benjamini & Hochberg (1995) at FALSE_SHARE. Values with
    fewer than two items of enough events say nothing.
    """
    if not any(held.values for held in holders):
        return [np.zeros(0, dtype=np.bool_) for _ in holders]
    z_V, null_DV = _standard_scores(holders, clusters, torch.from_numpy(events_N))
    sizes = [len(held.values) for held in holders]
    return [_told(*part) for part in zip(z_V.split(sizes), null_DV.split(sizes, dim=1), strict=True)]


def _standard_scores(holders: list[Holders], clusters: Clusters, events_N: Tensor) -> tuple[Tensor, Tensor]:
    """How much more together than random sets the items of each value lie, and how much these do; nan if it cannot be said. (V), (D, V)"""
    generator = torch.Generator().manual_seed(0)
    met_M = torch.nonzero(clusters.cluster_N >= 0)[:, 0]
    met_M = met_M[
        torch.randperm(len(met_M), generator=generator)
    ]  # ids in a row may be of one kind, and have as many events
    met_M = met_M[events_N[met_M].argsort(stable=True)]
    place_N = torch.full_like(clusters.cluster_N, -1)
    place_N[met_M] = torch.arange(len(met_M))
    firsts = np.cumsum([0] + [len(held.values) for held in holders])
    value_P = torch.from_numpy(
        np.concatenate([held.value_P + first for held, first in zip(holders, firsts, strict=False)])
    )
    place_P = place_N[torch.from_numpy(np.concatenate([held.row_P for held in holders]))]
    value_P, place_P = value_P[place_P >= 0], place_P[place_P >= 0]
    begins_V = torch.searchsorted(value_P, torch.arange(int(firsts[-1])))
    space_MR = _standard(clusters.space_NR[met_M])

    def together(place_P: Tensor) -> Tensor:
        return F.embedding_bag(place_P, space_MR, begins_V, mode="sum").square().sum(1)

    null_DV = torch.stack([together(_drawn(len(met_M), generator)[place_P]) for _ in range(DRAWS)])
    mean_V, spread_V = null_DV.mean(0), null_DV.std(0)
    spread_V[spread_V <= LEAST_SPREAD * mean_V] = torch.nan
    return (together(place_P) - mean_V) / spread_V, (null_DV - mean_V) / spread_V


def _standard(space_MR: Tensor) -> Tensor:
    """At length 1, about the middle, each axis by its standard deviation: what all items have in common says nothing of a few."""
    centred_MR = space_MR - space_MR.mean(0)
    return F.normalize(centred_MR / centred_MR.square().mean(0).sqrt().clamp_min(1e-6), dim=1)


def _drawn(count: int, generator: torch.Generator) -> Tensor:
    """Each place's random one, of its stratum; no place twice. (M,)"""
    strata_M = torch.arange(count) // STRATUM
    return (strata_M + torch.rand(count, generator=generator, dtype=torch.float64)).argsort()


def _told(z_V: Tensor, null_DV: Tensor) -> BoolArray:
    """Benjamini and Hochberg's procedure: the values in the order of p, up to the last with p <= FALSE_SHARE * its rank / V."""
    judged_V = ~z_V.isnan()
    null = null_DV[:, judged_V].flatten().sort().values
    above_V = len(null) - torch.searchsorted(null, z_V[judged_V])
    p_V = (above_V + 1) / (len(null) + 1)
    ordered_V = p_V.sort().values
    passed = torch.nonzero(ordered_V <= FALSE_SHARE * torch.arange(1, len(p_V) + 1) / len(p_V))[:, 0]
    told_V = torch.zeros_like(judged_V)
    if len(passed):
        told_V[judged_V] = p_V <= ordered_V[passed[-1]]
    told: BoolArray = told_V.numpy()
    return told
