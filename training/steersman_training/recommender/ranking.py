"""Whole-catalogue ranking metrics: no sampled candidates (Krichene & Rendle, KDD 2020)."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from steersman_training.data.sequences import EvaluationBatch, Split, Targets, evaluation_batches
from steersman_training.recommender.model import Recommender

TOP = 10
MOST_USERS = 10_000
"""On whom a recommender is ranked while it is trained, drawn at random: the standard error of NDCG@10 is 0.003 then."""


@dataclass(frozen=True)
class RankingMetrics:
    """Means over targets, with the ten best items of each history taken as its list."""

    ndcg: float  # NDCG@10: 1 / log2(1 + rank) of the target, 0 beyond rank 10
    hr: float  # hit rate @10
    mrr: float  # mean reciprocal rank over the whole catalogue
    coverage: float  # share of the catalogue that appears in any list

    def named(self, prefix: str) -> dict[str, float]:
        ending = {"mrr": ""}
        return {f"{prefix}.{name}{ending.get(name, f'_at_{TOP}')}": value for name, value in asdict(self).items()}


def ranks(scores_BN: Tensor, targets_B: Tensor) -> Tensor:
    """Rank of each target from 1; equal scores rank by item row, as the search graph does."""
    target_B1 = scores_BN.gather(1, targets_B[:, None])
    ahead = scores_BN > target_B1
    rows_N = torch.arange(scores_BN.shape[1], device=scores_BN.device)
    tied_ahead = (scores_BN == target_B1) & (rows_N < targets_B[:, None])
    return 1 + (ahead | tied_ahead).sum(1)


def ndcg(ranks_B: Tensor) -> Tensor:
    """NDCG@10 of each single target."""
    return (ranks_B <= TOP) / torch.log2(1.0 + ranks_B)


def mask_seen(scores_BN: Tensor, batch: EvaluationBatch) -> Tensor:
    """Minus infinity for all items of the history but the target, which may occur again."""
    rows, items = (torch.from_numpy(index).to(scores_BN.device) for index in batch.seen)
    targets_B = torch.from_numpy(batch.targets_B).to(scores_BN.device)
    target_B1 = scores_BN.gather(1, targets_B[:, None])
    masked_BN = scores_BN.index_put((rows, items), scores_BN.new_tensor(-math.inf))
    return masked_BN.scatter(1, targets_B[:, None], target_B1)


def measure(scored: Iterable[tuple[EvaluationBatch, Tensor]], *, filter_seen: bool) -> RankingMetrics:
    """Metrics of scores (B, N) over batches of held-out events."""
    all_ranks, recommended, items = [], [], 1
    for batch, scores in scored:
        scores_BN = mask_seen(scores, batch) if filter_seen else scores
        items = scores_BN.shape[1]
        all_ranks.append(ranks(scores_BN, torch.from_numpy(batch.targets_B).to(scores_BN.device)))
        recommended.append(scores_BN.topk(min(TOP, items)).indices.flatten())
    if not all_ranks:
        raise ValueError("no held-out events to measure on: no history is long enough for this split")
    rank = torch.cat(all_ranks).double()
    covered = torch.cat(recommended).unique().numel() / items
    return RankingMetrics(
        ndcg(rank).mean().item(), (rank <= TOP).double().mean().item(), (1 / rank).mean().item(), covered
    )


@torch.no_grad()
def evaluate(model: Recommender, split: Split, targets: Targets, *, filter_seen: bool = True) -> RankingMetrics:
    """Metrics of the recommender on held-out events, without controls."""
    model.eval()
    config = model.config
    device = model.biases.device

    def scored() -> Iterable[tuple[EvaluationBatch, Tensor]]:
        for batch in evaluation_batches(split, targets, config.window_length, config.window_stride):
            ids_BT, lengths_B = (torch.from_numpy(part).to(device) for part in batch.batch)
            yield batch, model.score(model.queries(ids_BT, lengths_B))

    return measure(scored(), filter_seen=filter_seen)


def evaluate_most_popular(split: Split, targets: Targets, *, filter_seen: bool = True) -> RankingMetrics:
    """The same metrics of recommending the items with the most training events to all users."""
    popularity_N, batches = torch.from_numpy(split.popularity()), evaluation_batches(split, targets, length=1, stride=1)
    scored = ((batch, popularity_N.expand(len(batch.targets_B), -1)) for batch in batches)
    return measure(scored, filter_seen=filter_seen)
