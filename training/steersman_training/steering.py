"""Measures what steering does to the lists of real users. Dimensions: B users, D hidden, E edits, N items, K = 10."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from steersman_training.edit import Edit
from steersman_training.graphs import Lower, Search, Upper
from steersman_training.ranking import TOP, ndcg, ranks
from steersman_training.recommender import Recommender
from steersman_training.sequences import Split, Targets, evaluation_batches


class Lists(NamedTuple):
    """Ten items for each user, and how well they predict what the user did next."""

    rows_BK: Tensor
    ndcg_B: Tensor

    @property
    def ndcg(self) -> float:
        return self.ndcg_B.mean().item()

    def share_B(self, member_N: Tensor) -> Tensor:
        """Share of each list that belongs to a set of items."""
        return member_N[self.rows_BK].double().mean(1)

    def share(self, member_N: Tensor) -> float:
        return self.share_B(member_N).mean().item()


@dataclass(frozen=True)
class Audience:
    """Users at one held-out event each, with their hidden states computed once. Items already seen are not eligible."""

    model: Recommender
    h_BD: Tensor
    context: tuple[Tensor, ...]  # what upper needs besides the state
    eligible_BN: Tensor
    targets_B: Tensor

    @cached_property
    def plain(self) -> Lists:
        """The lists without any control."""
        return self.lists()

    def take(self, rows: Tensor) -> "Audience":
        """Some of the users."""
        context = tuple(part[rows] for part in self.context)
        return Audience(self.model, self.h_BD[rows], context, self.eligible_BN[rows], self.targets_B[rows])

    def log_probabilities(self, h_BD: Tensor, tilts_N: Tensor | float = 0.0) -> Tensor:
        """Log-softmax over the eligible items from these states (the others at about -10,000). (B, N)"""
        scores_BN = self.model.score(Upper(self.model)(h_BD, *self.context)) + tilts_N
        return (scores_BN - 1e4 * ~self.eligible_BN).log_softmax(-1)

    @torch.no_grad()
    def lists(self, h_BD: Tensor | None = None, tilts_N: Tensor | None = None) -> Lists:
        """The lists from these states (by default the users' own), with a bias on the scores of items."""
        model = self.model
        query_BD = Upper(model)(self.h_BD if h_BD is None else h_BD, *self.context)
        tilts_1N = torch.zeros_like(model.biases) if tilts_N is None else tilts_N
        table = (model.items.weight, model.biases, self.eligible_BN, tilts_1N[None])
        found = Search()(query_BD, *table, torch.tensor(TOP))
        scores_BN = (model.score(query_BD) + tilts_1N).masked_fill(~self.eligible_BN, -math.inf)
        return Lists(found.rows_BK, ndcg(ranks(scores_BN, self.targets_B)))

    def steered(self, edit: Edit, features_E: Tensor, strengths_E: Tensor, *, strength: float = 1.0) -> Lists:
        """The lists when every user has these `add` edits, times `strength`."""
        size = (len(self.h_BD), len(features_E))
        strengths_BE = (strength * strengths_E).expand(size)
        with torch.no_grad():
            edited = edit(self.h_BD, features_E.expand(size), torch.ones_like(strengths_BE), strengths_BE)
        return self.lists(edited.edited_BD)


@torch.no_grad()
def audience(model: Recommender, split: Split, targets: Targets) -> Audience:
    """States of the histories before `targets`."""
    model.eval()
    config, device = model.config, model.biases.device
    (batch,) = evaluation_batches(split, targets, config.window_length, config.window_stride, len(targets.users))
    targets_B = torch.from_numpy(batch.targets_B).to(device)
    eligible_BN = torch.ones(len(targets_B), split.item_count, dtype=torch.bool, device=device)
    eligible_BN[tuple(torch.from_numpy(index).to(device) for index in batch.seen)] = False
    eligible_BN.scatter_(1, targets_B[:, None], True)
    lengths_B = torch.from_numpy(batch.batch.lengths_B).to(device)
    h_BD, *context = Lower(model)(model.items.weight, torch.from_numpy(batch.batch.ids_BT).to(device), lengths_B)
    return Audience(model, h_BD, (*context, lengths_B) if context else (), eligible_BN, targets_B)


def boost_to_share(people: Audience, member_N: Tensor, share: float) -> tuple[float, Lists]:
    """Score boosting: the constant on the scores of `member_N` whose lists reach `share` of it, by bisection."""
    low, high = 0.0, 20.0
    for _ in range(14):
        middle = (low + high) / 2
        reached = people.lists(tilts_N=middle * member_N).share(member_N)
        low, high = (middle, high) if reached < share else (low, middle)
    return high, people.lists(tilts_N=high * member_N)
