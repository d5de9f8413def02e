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

from steersman_training.data.sequences import Split
from steersman_training.data.titles import readable_title

ATTRIBUTE = "co_consumption"  # the attribute whose values are clusters
WINDOW = 5  # events after an event that count as taken up together with it
MIN_EVENTS = 5  # training events that an item needs to belong to a cluster: of fewer, chance decides
RANK = 32  # dimensions of the space that items are clustered in
SUBSPACE_STEPS = 6
LLOYD_STEPS = 25
MOST_CLUSTERS = 64  # more are too many to look through
MOST_EVENTS = 2_000_000  # about as many events as pairs are counted of
MOST_ITEMS = 50_000  # that centres are sought among


class Clusters(NamedTuple):
    """Disjoint sets of items."""

    cluster_N: Tensor  # cluster of each item, from 0; -1 for items with too few events
    space_NR: Tensor  # where each item lies, at length 1; zeros for items with too few events
    typical: list[
        list[int]
    ]  # rows of each cluster's items, the most typical first: near its centre, and with many events

    def likeness(self, rows: Tensor) -> float:
        """Mean cosine of the pairs of a set's items with enough events; 0 without a pair. `rows`: of the set's items."""
        members_MR = self.space_NR[rows[self.cluster_N[rows] >= 0]]
        count = len(members_MR)
        return (float(members_MR.sum(0).square().sum()) - count) / (count * (count - 1)) if count > 1 else 0.0

    def named(self, titles: list[str]) -> list[str]:
        """A name for each cluster: its two most typical titles."""
        return [" / ".join(readable_title(titles[row]) for row in rows[:2]) for rows in self.typical]


def cluster_items(split: Split, min_items: int, seed: int = 0) -> Clusters:
    """About sqrt(N) / 2 clusters, MOST_CLUSTERS at most, of at least `min_items` items each.

    By spherical k-means of items embedded by co-occurrence. Of much data a random part is looked at: histories of about MOST_EVENTS
    events, and, for the centres, MOST_ITEMS items.
    """
    popularity_N = torch.from_numpy(split.popularity())
    met = torch.nonzero(popularity_N >= min(MIN_EVENTS, float(popularity_N.max())))[:, 0]
    generator = torch.Generator().manual_seed(seed)
    space_NR = torch.zeros(split.item_count, min(RANK, split.item_count))
    space_NR[met] = F.normalize(_embed(split, generator)[met], dim=1)
    count = max(1, min(round(sqrt(len(met)) / 2), len(met) // max(min_items, 1), MOST_CLUSTERS))
    looked_at = met if len(met) <= MOST_ITEMS else met[torch.randperm(len(met), generator=generator)[:MOST_ITEMS]]
    centres_CR = _k_means(space_NR[looked_at], count, min_items, generator)
    nearness_NC = space_NR[met] @ centres_CR.T
    cluster_N = torch.full((split.item_count,), -1)
    cluster_N[met] = nearness_NC.argmax(1)
    typicality_N = torch.zeros(split.item_count)
    typicality_N[met] = nearness_NC.amax(1) * popularity_N[met].float().log1p()
    order = typicality_N.argsort(descending=True, stable=True)
    typical = [order[cluster_N[order] == cluster].tolist() for cluster in range(len(centres_CR))]
    return Clusters(cluster_N, space_NR, typical)


def with_clusters(items: pl.DataFrame, clusters: Clusters) -> pl.DataFrame:
    """The item table, with the clusters as an attribute, unless it has one of that name.

    So there are values to filter by, to tilt by and to steer by, for any data.
    """
    if ATTRIBUTE in items.columns:
        return items
    names = clusters.named(items["title"].to_list())
    values = [[names[cluster]] if cluster >= 0 else [] for cluster in clusters.cluster_N.tolist()]
    return items.with_columns(pl.Series(ATTRIBUTE, values, dtype=pl.List(pl.String)))


def _embed(split: Split, generator: torch.Generator) -> Tensor:
    """The leading eigenvectors of the items' PPMI, each times the root of its eigenvalue (Levy & Goldberg, NeurIPS 2014). (N, R)

    By subspace iteration, which needs products with the sparse matrix only.
    """
    ppmi_NN = _ppmi(split, np.random.default_rng(generator.initial_seed()))
    q_NR = torch.randn(split.item_count, min(RANK, split.item_count), generator=generator)
    for _ in range(SUBSPACE_STEPS):
        q_NR = torch.linalg.qr(ppmi_NN.times(q_NR)).Q
    eigenvalues_R, vectors_RR = torch.linalg.eigh(q_NR.T @ ppmi_NN.times(q_NR))
    space_NR: Tensor = (q_NR @ vectors_RR) * eigenvalues_R.clamp_min(0).sqrt()
    return space_NR


class Sparse(NamedTuple):
    """A sparse matrix, row by row. torch's own products with one are slower. (N, N)"""

    begins_N: Tensor  # where each row begins
    columns_P: Tensor
    values_P: Tensor

    def times(self, dense_NR: Tensor) -> Tensor:
        """The product. (N, R)"""
        return F.embedding_bag(
            self.columns_P, dense_NR.contiguous(), self.begins_N, mode="sum", per_sample_weights=self.values_P
        )


def _ppmi(split: Split, rng: np.random.Generator) -> Sparse:
    """Positive pointwise mutual information of items within WINDOW events of each other, the mean of both directions. (N, N)"""
    codes_P, counts_P = _pairs(split, rng)
    n = split.item_count
    rows_P, columns_P = codes_P // n, codes_P % n
    margin_N = np.bincount(rows_P, weights=counts_P, minlength=n)
    # Contexts are smoothed, or rare items would be neighbours of all (Levy et al., TACL 2015).
    context_N = margin_N**0.75
    own_N, other_N = (np.log(part_N.clip(1e-9)).astype(np.float32) for part_N in (margin_N, context_N))
    together_P = np.log(counts_P * context_N.sum()).astype(np.float32)
    there_P, back_P = (
        (together_P - own_N[one_P] - other_N[two_P]).clip(0)
        for one_P, two_P in ((rows_P, columns_P), (columns_P, rows_P))
    )
    begins_N = np.searchsorted(rows_P, np.arange(n))
    return Sparse(*map(torch.from_numpy, (begins_N, columns_P, (there_P + back_P) / 2)))


def _pairs(split: Split, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of events within WINDOW events of each other, in both directions: codes (item * N + other item), ascending, and counts.

    Of all training events, or of the histories of users drawn at random until these have MOST_EVENTS.
    """
    user_E = np.repeat(np.arange(split.users), np.diff(split.offsets_U))
    kept_E = split.is_trained_on()
    if kept_E.sum() > MOST_EVENTS:
        order = rng.permutation(split.users)
        before_U = split.train_ends_U[order].cumsum() - split.train_ends_U[order]
        kept_E &= np.isin(user_E, order[before_U < MOST_EVENTS])
    user_E, item_E = user_E[kept_E], split.items[kept_E]
    codes = []
    for gap in range(1, WINDOW + 1):
        same = user_E[gap:] == user_E[:-gap]
        first, second = item_E[:-gap][same], item_E[gap:][same]
        codes += [first * split.item_count + second, second * split.item_count + first]
    return np.unique(np.concatenate(codes), return_counts=True)


def _k_means(space_NR: Tensor, count: int, min_items: int, generator: torch.Generator) -> Tensor:
    """Centres of spherical k-means (Dhillon & Modha 2001), initialised by k-means++; clusters that stay too small are dropped. (C, R)"""
    centres = [space_NR[torch.randint(len(space_NR), (1,), generator=generator)]]
    distance_N = torch.full((len(space_NR),), torch.inf)
    for _ in range(count - 1):
        distance_N = distance_N.minimum((1 - (space_NR @ centres[-1].T)[:, 0]).clamp_min(1e-9))
        centres.append(space_NR[torch.multinomial(distance_N, 1, generator=generator)])
    centres_CR = torch.cat(centres)
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
