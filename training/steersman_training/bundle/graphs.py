"""The graphs of a bundle (proto/README.md) as torch modules: what is exported is what the offline evaluation runs.

Dimensions: B batch, T time, P = T + 1 positions, D hidden, E edits, C concepts of a request, X concepts in all, N items, K top-k or
candidates.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman_training.autoencoder.edit import Edit
from steersman_training.recommender.model import Recommender, last_position

MOST_CANDIDATES = 512  # best items of a user on which a concept may be solved
NEWTON_STEPS = 6  # of a concept's solution
MOST_LENGTHS = 1.0  # that such a step goes, in units of the feature's own Fisher length
MOST_TILT = 16.0  # nats that a concept is worth, however strong: more changes nothing but how far rounding is carried
MOST_STRENGTH = 16.0  # of a feature, whatever a concept asks for: eight times what is natural
# Of the change of scores at strength 1: below it a feature tells the candidates apart by rounding alone.
LEAST_VARIANCE = 1e-8
INELIGIBLE = -1e4  # score of candidates that may not be returned (minus infinity before): they weigh nothing
TAPER_NATS = 0.5  # candidates less than this above the last one count less, and the last one not at all
LEAST_EDIT = 1e-6  # a concept of smaller strengths has no edits: they are rounding
TINY = 1e-30  # keeps an empty system from dividing by zero; a bound, not a summand: the exporter drops such a small addition


class Lower(nn.Module):
    """Item ids to the hidden state at the hook; below the last block, also to the other positions' states, as context."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, items_ND: Tensor, ids_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, ...]:
        config = self.model.config
        x_BPD = self.model.embed(F.embedding(ids_BT, items_ND))
        if config.hook_block == config.blocks:
            return (self.model.finish(x_BPD, lengths_B, 0),)
        x_BPD = self.model.run_blocks(x_BPD, 0, config.hook_block)
        return last_position(x_BPD, lengths_B), x_BPD


class Upper(nn.Module):
    """Hidden state to query. An edit at the last position reaches no other one, attention being causal."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, h_BD: Tensor, context_BPD: Tensor | None = None, lengths_B: Tensor | None = None) -> Tensor:
        if context_BPD is None or lengths_B is None:
            return h_BD.clone()  # the state after the last block is the query
        index_B1D = lengths_B.view(-1, 1, 1).expand(-1, 1, h_BD.shape[1])
        x_BPD = context_BPD.scatter(1, index_B1D, h_BD.unsqueeze(1))
        return self.model.finish(x_BPD, lengths_B, self.model.config.hook_block)


class TopItems(NamedTuple):
    """The best items, best first; equal scores by row."""

    rows_BK: Tensor
    scores_BK: Tensor  # minus infinity if no eligible item is left


class Search(nn.Module):
    """Exact top-k of query . item + bias + tilt over the eligible items.

    Ties are broken by row, which torch.topk does not do: the k-th score is certain, and so are the items above it.
    """

    def forward(
        self, query_BD: Tensor, items_ND: Tensor, biases_N: Tensor, eligible_BN: Tensor, tilts_BN: Tensor, k: Tensor
    ) -> TopItems:
        scores_BN = _eligible_scores(query_BD, items_ND, biases_N, eligible_BN, tilts_BN)
        threshold_B1 = torch.topk(scores_BN, int(k), dim=1)[0][:, -1:]
        backwards_BN = torch.ones_like(scores_BN, dtype=torch.int64).cumsum(1).flip(1)
        above_BN, equal_BN = scores_BN > threshold_B1, scores_BN == threshold_B1
        preference_BN = backwards_BN * (above_BN | equal_BN) + scores_BN.shape[1] * above_BN
        rows_BK = torch.sort(torch.topk(preference_BN, int(k), dim=1)[1], dim=1)[0]
        scores_BK, order_BK = torch.sort(scores_BN.gather(1, rows_BK), dim=1, descending=True, stable=True)
        return TopItems(rows_BK.gather(1, order_BK), scores_BK)


class OnnxSearch(nn.Module):
    """The same for ONNX, whose TopK breaks ties by index."""

    def forward(
        self, query_BD: Tensor, items_ND: Tensor, biases_N: Tensor, eligible_BN: Tensor, tilts_BN: Tensor, k: Tensor
    ) -> TopItems:
        scores_BN = _eligible_scores(query_BD, items_ND, biases_N, eligible_BN, tilts_BN)
        scores_BK, rows_BK = torch.topk(scores_BN, k, dim=1)  # type: ignore[arg-type]  # an int would be traced as a constant
        return TopItems(rows_BK, scores_BK)


def _eligible_scores(
    query_BD: Tensor, items_ND: Tensor, biases_N: Tensor, eligible_BN: Tensor, tilts_BN: Tensor
) -> Tensor:
    return (F.linear(query_BD, items_ND, biases_N) + tilts_BN).masked_fill(~eligible_BN, float("-inf"))


class ConceptEdits(NamedTuple):
    """Edits that concepts come down to: one each, of its anchored feature."""

    concept_features_BE: Tensor
    concept_gains_BE: Tensor
    concept_edits_BE: Tensor


class SolvedConcepts(nn.Module):
    """A concept is its anchored feature, as strong as the state at hand needs it.

    With s the scores of the user's best items, lean the direction of the concept (1 for items with an attribute value, or a standard
    score), t = strength * tilt, and J the change of s by the feature's strength w, of all lists q = softmax(s + w J) that the feature can
    make it chooses

        maximise over w:  t E_q[lean] - KL( q || softmax(s) )

    over w of the sign of t, uphill from 0 by Newton steps: the slope is Cov_q(J, t lean - w J), and the curvature is taken to be no less
    than Var_q(J), which it is near 0. Scores are linear in a state that is the query, so J is exact. A tilt is what it is measured by
    since that is the cheapest way to raise a known attribute: of all distributions with that share it is the closest to the user's own.

    Rounding may decide which item is the last candidate, so it must not matter: if there are more items than candidates, each
    candidate counts by its taper, which falls to 0 there: in s by its logarithm, in lean and J as a factor. All is in double precision,
    since backends must agree, and a feature may not tell two equal items apart.
    """

    INPUTS = ("candidates_BK", "candidate_scores_BK", "items_ND", "concepts_BC", "concept_strengths_BC")

    features_X: Tensor
    directions_XD: Tensor
    leans_XN: Tensor
    tilts_X: Tensor

    def __init__(self, edit: Edit, features_X: Tensor, leans_XN: Tensor, tilts_X: Tensor, candidates: int) -> None:
        super().__init__()
        self.candidates = candidates
        self.register_buffer("features_X", features_X)
        self.register_buffer("directions_XD", edit.scale_F[features_X].unsqueeze(-1) * edit.sae.decoder_FD[features_X])
        self.register_buffer("leans_XN", leans_XN)
        self.register_buffer("tilts_X", tilts_X)

    def forward(
        self,
        candidates_BK: Tensor,
        candidate_scores_BK: Tensor,
        items_ND: Tensor,
        concepts_BC: Tensor,
        concept_strengths_BC: Tensor,
    ) -> ConceptEdits:
        scores_BK = candidate_scores_BK.clamp_min(INELIGIBLE).double()
        chosen = self.candidates < self.leans_XN.shape[1]
        taper_BK = _taper(scores_BK) if chosen else torch.ones_like(scores_BK)
        scores_B1K = (scores_BK + taper_BK.clamp_min(TINY).log()).unsqueeze(1)
        taper_B1K = taper_BK.unsqueeze(1)
        items_BKD = F.embedding(candidates_BK, items_ND)
        jacobian_BCK = (self.directions_XD[concepts_BC] @ items_BKD.transpose(1, 2)).double() * taper_B1K
        rows_BCK = concepts_BC.unsqueeze(-1) * self.leans_XN.shape[1] + candidates_BK.unsqueeze(1)
        lean_BCK = F.embedding(rows_BCK, self.leans_XN.view(-1, 1)).squeeze(-1) * taper_B1K
        tilts_BC = (self.tilts_X[concepts_BC] * concept_strengths_BC).double().clamp(-MOST_TILT, MOST_TILT)
        least_BC, most_BC = MOST_STRENGTH * tilts_BC.sign().clamp_max(0), MOST_STRENGTH * tilts_BC.sign().clamp_min(0)
        weights_BC = torch.zeros_like(tilts_BC)
        for _ in range(NEWTON_STEPS):
            now_BCK = (scores_B1K + weights_BC.unsqueeze(-1) * jacobian_BCK).softmax(-1)
            change_BCK = jacobian_BCK - (now_BCK * jacobian_BCK).sum(-1, keepdim=True)
            pull_BCK = tilts_BC.unsqueeze(-1) * lean_BCK - weights_BC.unsqueeze(-1) * jacobian_BCK
            pull_BCK = pull_BCK - (now_BCK * pull_BCK).sum(-1, keepdim=True)
            weighed_BCK = now_BCK * change_BCK
            variance_BC = (weighed_BCK * change_BCK).sum(-1).clamp_min(LEAST_VARIANCE)
            curvature_BC = variance_BC + (weighed_BCK * change_BCK * -pull_BCK).sum(-1).clamp_min(0.0)
            furthest_BC = MOST_LENGTHS / variance_BC.sqrt()
            step_BC = (weighed_BCK * pull_BCK).sum(-1) / curvature_BC
            weights_BC = weights_BC + torch.minimum(torch.maximum(step_BC, -furthest_BC), furthest_BC)
            weights_BC = torch.minimum(torch.maximum(weights_BC, least_BC), most_BC)
        edits_BC = weights_BC.masked_fill(weights_BC.abs() < LEAST_EDIT, 0.0).float()
        return ConceptEdits(self.features_X[concepts_BC], torch.ones_like(edits_BC), edits_BC)


def _taper(scores_BK: Tensor) -> Tensor:
    """The weight of each candidate: 0 for the last one, 1 from TAPER_NATS above it."""
    return ((scores_BK - scores_BK.amin(-1, keepdim=True)) / TAPER_NATS).clamp_max(1.0)


class FixedConcepts(nn.Module):
    """A concept is its anchored feature, as strong in every state: strength times its weight."""

    INPUTS = ("concepts_BC", "concept_strengths_BC")

    features_X: Tensor
    tilts_X: Tensor

    def __init__(self, features_X: Tensor, weights_X: Tensor) -> None:
        super().__init__()
        self.register_buffer("features_X", features_X)
        self.register_buffer("tilts_X", weights_X)

    def forward(self, concepts_BC: Tensor, concept_strengths_BC: Tensor) -> ConceptEdits:
        edits_BC = (self.tilts_X[concepts_BC] * concept_strengths_BC).clamp(-MOST_STRENGTH, MOST_STRENGTH)
        return ConceptEdits(self.features_X[concepts_BC], torch.ones_like(edits_BC), edits_BC)
