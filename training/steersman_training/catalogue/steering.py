"""The effect of steering on the lists of real users. Dimensions: B users, D hidden, E edits, N items, K = 10."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from steersman_training.autoencoder.edit import Edit
from steersman_training.bundle import graphs
from steersman_training.data.sequences import Split, Targets, evaluation_batches
from steersman_training.recommender.model import Recommender
from steersman_training.recommender.ranking import TOP, ndcg, ranks

Concepts = graphs.SolvedConcepts | graphs.FixedConcepts

RESOLVED_TOGETHER = 256  # users whose concepts are solved at once: each takes K x M numbers for its Jacobian
READ_TOGETHER = 512  # users whose histories are read at once: each takes P x D numbers several times over


class SteeredLists(NamedTuple):
    """Ten items for each user (all, if there are fewer), and the NDCG of the user's next event."""

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
    """Users at one held-out event each, with their hidden states. Items already seen are not eligible."""

    model: Recommender
    h_BD: Tensor
    context: tuple[Tensor, ...]  # inputs of upper besides the state
    eligible_BN: Tensor
    targets_B: Tensor

    @cached_property
    def plain(self) -> SteeredLists:
        """The lists without any control."""
        return self.lists()

    @property
    def candidates_BK(self) -> Tensor:
        return self.candidates.rows_BK

    @cached_property
    def candidates(self) -> graphs.TopItems:
        """The best eligible items of each user without any control, on which concepts are solved."""
        items_ND, biases_N = self.model.items.weight, self.model.biases
        query_BD = graphs.Upper(self.model)(self.h_BD, *self.context)
        k = torch.tensor(min(graphs.MOST_CANDIDATES, len(biases_N)))
        none_BN = torch.zeros_like(biases_N)[None]
        found: graphs.TopItems = graphs.Search()(query_BD, items_ND, biases_N, self.eligible_BN, none_BN, k)
        return found

    def take(self, rows: Tensor) -> "Audience":
        """Some of the users."""
        context = tuple(part[rows] for part in self.context)
        return Audience(self.model, self.h_BD[rows], context, self.eligible_BN[rows], self.targets_B[rows])

    def log_probabilities(self, h_BD: Tensor, tilts_N: Tensor | float = 0.0) -> Tensor:
        """Log-softmax over the eligible items from these states (the others at about -10,000). (B, N)"""
        scores_BN = self.model.score(graphs.Upper(self.model)(h_BD, *self.context)) + tilts_N
        return (scores_BN - 1e4 * ~self.eligible_BN).log_softmax(-1)

    @torch.no_grad()
    def lists(self, h_BD: Tensor | None = None, tilts_N: Tensor | None = None) -> SteeredLists:
        """The lists from these states (by default the users' own), with a bias on the scores of items."""
        query_BD = graphs.Upper(self.model)(self.h_BD if h_BD is None else h_BD, *self.context)
        scores_BN = self.model.score(query_BD)
        if tilts_N is not None:
            scores_BN = scores_BN + tilts_N
        scores_BN = scores_BN.masked_fill(~self.eligible_BN, -math.inf)
        return SteeredLists(
            scores_BN.topk(min(TOP, scores_BN.shape[1])).indices, ndcg(ranks(scores_BN, self.targets_B))
        )

    @torch.no_grad()
    def edited(self, edit: Edit, features_BE: Tensor, gains_BE: Tensor, strengths_BE: Tensor) -> SteeredLists:
        """The lists with edits, a row for each user."""
        return self.lists(edit(self.h_BD, features_BE, gains_BE, strengths_BE).edited_BD)

    def steered(self, edit: Edit, feature: int, strength: float) -> SteeredLists:
        """The lists with one feature turned up for all users."""
        features_B1, some_B1 = torch.full_like(self.targets_B, feature)[:, None], self.h_BD[:, :1]
        return self.edited(edit, features_B1, torch.ones_like(some_B1), torch.full_like(some_B1, strength))

    @torch.no_grad()
    def resolve(self, concepts: Concepts, concept: int, strength: float) -> graphs.ConceptEdits:
        """The edits of a concept for each user."""
        pool = {
            "concepts_BC": torch.full_like(self.targets_B, concept)[:, None],
            "concept_strengths_BC": torch.full_like(self.h_BD[:, :1], strength),
        }
        shared = {"items_ND": self.model.items.weight}
        if isinstance(concepts, graphs.SolvedConcepts):
            names = ("candidates_BK", "candidate_scores_BK")
            pool |= dict(zip(names, (best_BK[:, : concepts.candidates] for best_BK in self.candidates), strict=True))
        parts = [
            concepts(*(part[name] for name in concepts.INPUTS))
            for begin in range(0, len(self.h_BD), RESOLVED_TOGETHER)
            for part in [{name: value[begin : begin + RESOLVED_TOGETHER] for name, value in pool.items()} | shared]
        ]
        return graphs.ConceptEdits(*(torch.cat(column) for column in zip(*parts, strict=True)))


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
    ids_BT, lengths_B = (torch.from_numpy(part).to(device) for part in batch.batch)
    lower, whole = graphs.Lower(model), [part.split(READ_TOGETHER) for part in (ids_BT, lengths_B)]
    parts = [lower(model.items.weight, *some) for some in zip(*whole, strict=True)]
    h_BD, *context = (torch.cat(column) for column in zip(*parts, strict=True))
    return Audience(model, h_BD, (*context, lengths_B) if context else (), eligible_BN, targets_B)
