"""Co-consumption clusters: items often found close together in histories. Dimensions: N items, P pairs, R rank, C clusters.

They depend on the training events alone, not on the recommender: they are the same after every retraining on the same data, and
independent evidence of the meaning of its features.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.data.sequences import Split
from steersman_training.data.titles import readable_title

ATTRIBUTE = "co_consumption"  # the attribute whose values are clusters
WINDOW = 5  # events after an event that count as taken up together with it
MIN_EVENTS = 5  # training events that an item needs to belong to a cluster: of fewer, chance decides
RANK = 32  # dimensions of the space that items are clustered in
SUBSPACE_STEPS = 6
LLOYD_STEPS = 25


class Clusters(NamedTuple):
    """Disjoint sets of items."""

    cluster_N: Tensor  # cluster of each item, from 0; -1 for items with too few events
    space_NR: Tensor  # where each item lies, at length 1; zeros for items with too few events
    typical: list[
        list[int]
    ]  # rows of each cluster's items, the most typical first: near its centre, and with many events

    def likeness(self, member_N: Tensor) -> float:
        """Mean cosine of the pairs of a set's items with enough events; 0 without a pair."""
        members_MR = self.space_NR[member_N & (self.cluster_N >= 0)]
        count = len(members_MR)
        return (float(members_MR.sum(0).square().sum()) - count) / (count * (count - 1)) if count > 1 else 0.0

    def named(self, titles: list[str]) -> list[str]:
        """A name for each cluster: its two most typical titles."""
        return [" / ".join(readable_title(titles[row]) for row in rows[:2]) for rows in self.typical]


def cluster_items(split: Split, min_items: int, seed: int = 0) -> Clusters:
    """About sqrt(N) / 2 clusters of at least `min_items` items each: spherical k-means of items embedded by co-occurrence."""
    popularity_N = torch.from_numpy(split.popularity())
    met = torch.nonzero(popularity_N >= min(MIN_EVENTS, float(popularity_N.max())))[:, 0]
    generator = torch.Generator().manual_seed(seed)
    space_NR = torch.zeros(split.item_count, min(RANK, split.item_count))
    space_NR[met] = F.normalize(_embed(split, generator)[met], dim=1)
    count = max(1, min(round(sqrt(len(met)) / 2), len(met) // max(min_items, 1)))
    centres_CR = _k_means(space_NR[met], count, min_items, generator)
    nearness_NC = space_NR[met] @ centres_CR.T
    cluster_N = torch.full((split.item_count,), -1)
    cluster_N[met] = nearness_NC.argmax(1)
    typicality_N = torch.zeros(split.item_count)
    typicality_N[met] = nearness_NC.amax(1) * popularity_N[met].float().log1p()
    order = typicality_N.argsort(descending=True, stable=True)
    typical = [order[cluster_N[order] == cluster].tolist() for cluster in range(len(centres_CR))]
    return Clusters(cluster_N, space_NR, typical)


def with_values(items: pl.DataFrame, clusters: Clusters, min_items: int) -> pl.DataFrame:
    """The item table, with the clusters as an attribute if no categorical attribute of its own has a value that `min_items` items share.

    So there are values to filter by, to tilt by and to steer by, for any data.
    """
    if AttributeValues.of(items, min_items).names:
        return items
    names = clusters.named(items["title"].to_list())
    values = [[names[cluster]] if cluster >= 0 else [] for cluster in clusters.cluster_N.tolist()]
    return items.with_columns(pl.Series(ATTRIBUTE, values, dtype=pl.List(pl.String)))


def _embed(split: Split, generator: torch.Generator) -> Tensor:
    """The leading eigenvectors of the items' PPMI, each times the root of its eigenvalue (Levy & Goldberg, NeurIPS 2014). (N, R)

    By subspace iteration, which needs products with the sparse matrix only.
    """
    ppmi_NN = _ppmi(split)
    q_NR = torch.randn(split.item_count, min(RANK, split.item_count), generator=generator, dtype=torch.float64)
    for _ in range(SUBSPACE_STEPS):
        q_NR = torch.linalg.qr(ppmi_NN @ q_NR).Q
    eigenvalues_R, vectors_RR = torch.linalg.eigh(q_NR.T @ (ppmi_NN @ q_NR))
    space_NR: Tensor = (q_NR @ vectors_RR) * eigenvalues_R.clamp_min(0).sqrt()
    return space_NR.float()


def _ppmi(split: Split) -> Tensor:
    """Positive pointwise mutual information of items within WINDOW events of each other, as a sparse matrix. (N, N)"""
    histories = [split.train_history(user) for user in range(split.users)]
    gaps = range(1, WINDOW + 1)
    firsts = np.concatenate([history[:-gap] for history in histories for gap in gaps])
    seconds = np.concatenate([history[gap:] for history in histories for gap in gaps])
    n = split.item_count
    codes_P, counts_P = np.unique(np.concatenate([firsts * n + seconds, seconds * n + firsts]), return_counts=True)
    rows_P, columns_P = codes_P // n, codes_P % n
    margin_N = np.bincount(rows_P, weights=counts_P, minlength=n)
    # Contexts are smoothed, or rare items would be neighbours of all (Levy et al., TACL 2015).
    context_N = margin_N**0.75
    pmi_P = np.log(counts_P * context_N.sum() / (margin_N[rows_P] * context_N[columns_P]))
    indices_2P = torch.from_numpy(np.stack([rows_P, columns_P]))
    ppmi_NN = torch.sparse_coo_tensor(indices_2P, torch.from_numpy(pmi_P).clamp_min(0), (n, n), check_invariants=True)
    return ((ppmi_NN + ppmi_NN.t()) / 2).coalesce()


def _k_means(space_NR: Tensor, count: int, min_items: int, generator: torch.Generator) -> Tensor:
    """Centres of spherical k-means (Dhillon & Modha 2001), initialised by k-means++; clusters that stay too small are dropped. (C, R)"""
    centres_CR = space_NR[torch.randint(len(space_NR), (1,), generator=generator)]
    for _ in range(count - 1):
        distance_N = (1 - (space_NR @ centres_CR.T).amax(1)).clamp_min(1e-9)
        centres_CR = torch.cat([centres_CR, space_NR[torch.multinomial(distance_N, 1, generator=generator)]])
    for step in range(LLOYD_STEPS + count):
        cluster_N = (space_NR @ centres_CR.T).argmax(1)
        sizes_C = torch.bincount(cluster_N, minlength=len(centres_CR))
        centres_CR = F.normalize(torch.zeros_like(centres_CR).index_add_(0, cluster_N, space_NR), dim=1)
        if step >= LLOYD_STEPS:
            if int(sizes_C.min()) >= min_items or len(centres_CR) == 1:
                break
            least = int(sizes_C.argmin())
            centres_CR = torch.cat([centres_CR[:least], centres_CR[least + 1 :]])
    return centres_CR
