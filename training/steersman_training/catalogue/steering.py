"""The effect of steering on the lists of real users. Dimensions: B users, D hidden, E edits, N items, K = 10."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from steersman_training.autoencoder.edit import Edit
from steersman_training.bundle import graphs
from steersman_training.data.sequences import Split, Targets, evaluation_batches
from steersman_training.recommender.model import Recommender
from steersman_training.recommender.ranking import TOP, ndcg, ranks

Concepts = graphs.SolvedConcepts | graphs.FixedConcepts

RESOLVED_TOGETHER = 256  # users whose concepts are solved at once: each takes K x M numbers for its Jacobian
DRAWS = 8  # items drawn for each user to estimate the Fisher information
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

    @cached_property
    def _scores_BN(self) -> Tensor:
        """Without any control; minus infinity where an item is not eligible."""
        query_BD = graphs.Upper(self.model)(self.h_BD, *self.context)
        return self.model.score(query_BD).masked_fill(~self.eligible_BN, -math.inf)

    @torch.no_grad()
    def moved(self, steps_B: Tensor, change_N: Tensor) -> SteeredLists:
        """The lists where each user's scores change by a step of their own times `change_N`.

        Where the state is the query, a step along a direction d is one along `change_N = items . d`: the same lists as from the states
        moved, without a product with every item.
        """
        scores_BN = torch.addcmul(self._scores_BN, steps_B[:, None], change_N)
        best = scores_BN.topk(min(TOP, scores_BN.shape[1]))
        # Ranks beyond the list count nothing.
        listed = (scores_BN.gather(1, self.targets_B[:, None]) >= best.values[:, -1:]).nonzero()[:, 0]
        ndcg_B = torch.zeros(len(scores_BN), device=scores_BN.device)
        ndcg_B[listed] = ndcg(ranks(scores_BN[listed], self.targets_B[listed]))
        return SteeredLists(best.indices, ndcg_B)

    @torch.no_grad()
    def edited(self, edit: Edit, features_BE: Tensor, gains_BE: Tensor, strengths_BE: Tensor) -> SteeredLists:
        """The lists with edits, a row for each user."""
        return self.lists(edit(self.h_BD, features_BE, gains_BE, strengths_BE).edited_BD)

    @torch.no_grad()
    def concept_strengths(self, edit: Edit, concepts: Concepts, concept: int, strength: float) -> Tensor:
        """The strength of a concept's feature for each user. (B,)

        Where the concept is solved, the bundle's own graph solves it, along one direction: items have one dimension instead of D.
        """
        if not isinstance(concepts, graphs.SolvedConcepts):
            return self.resolve(concepts, concept, strength).concept_edits_BE[:, 0]
        feature = concepts.features_X[concept]
        change_N1 = (self.model.items.weight @ (edit.scale_F[feature] * edit.sae.decoder_FD[feature]))[:, None]
        one_X1 = torch.ones(len(concepts.tilts_X), 1, device=change_N1.device)
        whole = [part[:, : concepts.candidates].split(RESOLVED_TOGETHER) for part in self.candidates]
        parts = []
        for best in zip(*whole, strict=True):
            controls = (torch.full_like(best[0][:, :1], concept), torch.full_like(best[1][:, :1], strength))
            parts.append(functional_call(concepts, {"directions_XD": one_X1}, (*best, change_N1, *controls)))
        return torch.cat([part.concept_edits_BE[:, 0] for part in parts])

    def steered(self, edit: Edit, feature: int, strength: float | Tensor) -> SteeredLists:
        """The lists with one feature turned up, by one strength or by one for each user (B,)."""
        return self.along(edit.scale_F[feature] * edit.sae.decoder_FD[feature], strength)

    @torch.no_grad()
    def along(self, direction_D: Tensor, strength: float | Tensor) -> SteeredLists:
        """The lists from states moved along a direction, by one strength or by one for each user (B,)."""
        steps_B = torch.as_tensor(strength, device=self.h_BD.device).expand(len(self.h_BD)).to(self.h_BD)
        if self.context:
            return self.lists(self.h_BD + steps_B[:, None] * direction_D)
        return self.moved(steps_B, self.model.items.weight @ direction_D)

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


@torch.enable_grad()
def pull(people: Audience, member_N: Tensor) -> Tensor:
    """Which way the state must move to make an attribute's items likelier: mean over users of d P(member) / d h. (D,)

    Its product with a direction is the mean over users of cov_q(member, J), J being the change of the scores along that direction.
    """
    shift_D = torch.zeros_like(people.h_BD[0], requires_grad=True)
    probability = (people.log_probabilities(people.h_BD + shift_D).exp() * member_N).sum(-1).mean()
    (pull_D,) = torch.autograd.grad(probability, shift_D)
    return pull_D


@torch.enable_grad()
def fisher_information(people: Audience, seed: int = 0) -> Tensor:
    """Mean over users of the Fisher information of their next item in the state, from drawn items. (D, D)

    Half its quadratic form is, to second order, how far (KL, nats) a step takes the lists: the length in which directions of different
    kinds are compared.
    """
    generator = torch.Generator(people.h_BD.device).manual_seed(seed)
    h_BD = people.h_BD.detach().requires_grad_()
    log_BN = people.log_probabilities(h_BD)
    drawn_BS = torch.multinomial(log_BN.detach().exp(), DRAWS, replacement=True, generator=generator)
    gradients = [
        torch.autograd.grad(log_BN.gather(1, column_B1).sum(), h_BD, retain_graph=True)[0]
        for column_B1 in drawn_BS.split(1, dim=1)
    ]
    score_SD = torch.cat(gradients)
    return score_SD.T @ score_SD / len(score_SD)
