"""The graphs of a bundle (proto/README.md) as torch modules: what is exported is what the offline evaluation runs.

Dimensions: B batch, T time, P = T + 1 positions, D hidden, E edits, C concepts of a request, X concepts in all, M features of a concept,
N items, K top-k or candidates.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman_training.edit import Edit
from steersman_training.recommender import Recommender, last_position

MOST_CANDIDATES = 512
"""Best items of a user on which a concept may be solved."""
NEWTON_STEPS = 2
"""Of a concept's solution: the tilt is approached in as many equal parts."""
ROUNDING = 16
"""Of single precision, as -ln(2^-23)."""
LAST_STEPS = 2
"""Of the solution in double precision: they square what single precision has left, which the condition has enlarged."""
INELIGIBLE = -1e4
"""Score of candidates that may not be returned (minus infinity before): they weigh nothing."""
TINY = 1e-30
"""Keeps a system that asks for nothing from dividing by nothing. A bound, not a summand: the exporter drops an addition this small."""


class Lower(nn.Module):
    """Item ids to the hidden state at the hook. Below the last block, the other positions' states go along as context."""

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


class Found(NamedTuple):
    """The best items, best first; equal scores by row."""

    rows_BK: Tensor
    scores_BK: Tensor  # minus infinity where nothing eligible is left


class Search(nn.Module):
    """Exact top-k of query . item + bias + tilt over the eligible items."""

    def forward(
        self, query_BD: Tensor, items_ND: Tensor, biases_N: Tensor, eligible_BN: Tensor, tilts_BN: Tensor, k: Tensor
    ) -> Found:
        scores_BN = _eligible_scores(query_BD, items_ND, biases_N, eligible_BN, tilts_BN)
        return _top(scores_BN, int(k))


class OnnxSearch(nn.Module):
    """The same for ONNX, whose TopK breaks ties by index already, as torch's does not."""

    def forward(
        self, query_BD: Tensor, items_ND: Tensor, biases_N: Tensor, eligible_BN: Tensor, tilts_BN: Tensor, k: Tensor
    ) -> Found:
        scores_BN = _eligible_scores(query_BD, items_ND, biases_N, eligible_BN, tilts_BN)
        count = k.item()
        assert isinstance(count, int)
        torch._check(count >= 1)
        torch._check(count <= scores_BN.shape[1])
        scores_BK, rows_BK = torch.topk(scores_BN, count, dim=1)
        return Found(rows_BK, scores_BK)


def _eligible_scores(
    query_BD: Tensor, items_ND: Tensor, biases_N: Tensor, eligible_BN: Tensor, tilts_BN: Tensor
) -> Tensor:
    return (F.linear(query_BD, items_ND, biases_N) + tilts_BN).masked_fill(~eligible_BN, float("-inf"))


def _top(scores_BN: Tensor, k: int) -> Found:
    """Top k with ties broken by row, which torch.topk leaves open: the k-th score is certain, and so is who is above it."""
    threshold_B1 = torch.topk(scores_BN, k, dim=1)[0][:, -1:]
    backwards_BN = torch.ones_like(scores_BN, dtype=torch.int64).cumsum(1).flip(1)
    above_BN, equal_BN = scores_BN > threshold_B1, scores_BN == threshold_B1
    preference_BN = backwards_BN * (above_BN | equal_BN) + scores_BN.shape[1] * above_BN
    rows_BK = torch.sort(torch.topk(preference_BN, k, dim=1)[1], dim=1)[0]
    scores_BK, order_BK = torch.sort(scores_BN.gather(1, rows_BK), dim=1, descending=True, stable=True)
    return Found(rows_BK.gather(1, order_BK), scores_BK)


class ConceptEdits(NamedTuple):
    """Edits that concepts come down to, as many for each concept."""

    concept_features_BE: Tensor
    concept_gains_BE: Tensor
    concept_edits_BE: Tensor


class Solver(NamedTuple):
    """How concepts are solved."""

    candidates: int = 256
    """Best items of a user on which they are, at most MOST_CANDIDATES."""
    ridge: float = 0.05
    """Relative to a feature's own curvature: what keeps weights small where features do much the same."""


class SolvedConcepts(nn.Module):
    """A concept is solved for the state at hand: its features move the scores as a tilt by its attribute value would.

    With s the scores of the user's best items, lean what the concept raises (1 for items with an attribute value, or a standard score),
    and J the change of s by each feature's strength,

        minimise over w:  KL( softmax(s + strength * tilt * lean) || softmax(s + J w) )

    by a few Newton steps with a ridge. Scores are linear in a state that is the query, so J is exact. Tilting is the target since it is the
    cheapest way to raise a known attribute: of all distributions with that share it is the closest to the user's own. The solution is in
    double precision: what rounding does to it grows with the condition, and backends must agree.
    """

    INPUTS = ("candidates_BK", "candidate_scores_BK", "items_ND", "concepts_BC", "concept_strengths_BC")

    features_XM: Tensor
    directions_XMD: Tensor
    leans_XN: Tensor
    tilts_X: Tensor

    def __init__(self, edit: Edit, features_XM: Tensor, leans_XN: Tensor, tilts_X: Tensor, solver: Solver) -> None:
        super().__init__()
        self.candidates, self.ridge = solver
        self.register_buffer("features_XM", features_XM)
        self.register_buffer(
            "directions_XMD", edit.scale_F[features_XM].unsqueeze(-1) * edit.sae.decoder_FD[features_XM]
        )
        self.register_buffer("leans_XN", leans_XN)
        self.register_buffer("tilts_X", tilts_X)

    def strengthen(self, concept: int, factor: float) -> None:
        """Makes strength 1 of a concept what `factor` was before."""
        self.tilts_X[concept] *= factor

    def forward(
        self,
        candidates_BK: Tensor,
        candidate_scores_BK: Tensor,
        items_ND: Tensor,
        concepts_BC: Tensor,
        concept_strengths_BC: Tensor,
    ) -> ConceptEdits:
        items_BKD = F.embedding(candidates_BK, items_ND).double()
        scores_B1K = candidate_scores_BK.clamp_min(INELIGIBLE).double().unsqueeze(1)
        jacobian_BCKM = items_BKD.unsqueeze(1) @ self.directions_XMD[concepts_BC].double().transpose(-1, -2)
        lean_BCK = self.leans_XN[concepts_BC.unsqueeze(-1), candidates_BK.unsqueeze(1)]
        tilts_BCK = lean_BCK * (self.tilts_X[concepts_BC] * concept_strengths_BC).unsqueeze(-1)
        weights_BCM = torch.zeros_like(jacobian_BCKM[:, :, 0])
        for step in range(1, NEWTON_STEPS + 1):
            moved_BCK = (jacobian_BCKM @ weights_BCM.unsqueeze(-1)).squeeze(-1)
            wanted_BCK = (scores_B1K + tilts_BCK * (step / NEWTON_STEPS)).softmax(-1)
            now_BCK = (scores_B1K + moved_BCK).softmax(-1)
            weights_BCM = weights_BCM + _newton_step(jacobian_BCKM, now_BCK, wanted_BCK, self.ridge)
        edits_BE = weights_BCM.flatten(1).float()
        return ConceptEdits(self.features_XM[concepts_BC].flatten(1), torch.ones_like(edits_BE), edits_BE)


def _newton_step(jacobian_BCKM: Tensor, now_BCK: Tensor, wanted_BCK: Tensor, ridge: float) -> Tensor:
    """The change of weights that brings one distribution to another, in the Fisher metric half way between them. (B, C, M)

    Each feature's strength is measured by what it does (its curvature, and `ridge` of the mean, since it may do next to nothing), and the
    ridge is relative to that: the condition is at most 1 + M / ridge.
    """
    weighed_BCKM = jacobian_BCKM * (0.5 * (now_BCK + wanted_BCK)).unsqueeze(-1)
    mean_BCM = weighed_BCKM.sum(-2)
    fisher_BCMM = jacobian_BCKM.transpose(-1, -2) @ weighed_BCKM - mean_BCM.unsqueeze(-1) * mean_BCM.unsqueeze(-2)
    curvature_BCM = fisher_BCMM.diagonal(dim1=-2, dim2=-1)
    scale_BCM = (curvature_BCM + ridge * curvature_BCM.mean(-1, keepdim=True)).clamp_min(TINY).rsqrt()
    scaled_BCMM = fisher_BCMM * scale_BCM.unsqueeze(-1) * scale_BCM.unsqueeze(-2)
    slope_BCM = ((wanted_BCK - now_BCK).unsqueeze(-2) @ jacobian_BCKM).squeeze(-2)
    return _solve(scaled_BCMM, slope_BCM * scale_BCM, ridge) * scale_BCM


def _solve(a_BCMM: Tensor, b_BCM: Tensor, ridge: float) -> Tensor:
    """Solves (A + ridge I) x = b, A having no entry beyond 1 and no negative eigenvalue: ONNX has no linear solve.

    The inverse by Newton's iteration (Schulz 1933), X <- X (2 I - A X): what is missing of it, I - A X, is squared at each step, from at
    most 1 - ridge / (M + ridge) on. An error of rounding is squared away like any other, so all but the last LAST_STEPS steps are in single
    precision. Conjugate gradients take as many steps as there are unknowns, each of many small operations, and fewer end where rounding
    leads them: backends would differ.
    """
    count = a_BCMM.shape[-1]
    identity_MM = torch.eye(count, dtype=a_BCMM.dtype, device=a_BCMM.device)
    ridged_BCMM = a_BCMM + ridge * identity_MM
    largest_BC11 = ridged_BCMM.abs().sum(-1, keepdim=True).amax(-2, keepdim=True)  # no eigenvalue is larger
    inverse_BCMM = _approach(
        ridged_BCMM.float(), (identity_MM / largest_BC11).float(), math.ceil(math.log2(ROUNDING * (1 + count / ridge)))
    )
    inverse_BCMM = _approach(ridged_BCMM, inverse_BCMM.double(), LAST_STEPS)
    return (inverse_BCMM @ b_BCM.unsqueeze(-1)).squeeze(-1)


def _approach(a_BCMM: Tensor, inverse_BCMM: Tensor, steps: int) -> Tensor:
    """Newton's iteration for the inverse, from one that is near enough."""
    twice_MM = 2 * torch.eye(a_BCMM.shape[-1], dtype=a_BCMM.dtype, device=a_BCMM.device)
    for _ in range(steps):
        inverse_BCMM = inverse_BCMM @ (twice_MM - a_BCMM @ inverse_BCMM)
    return inverse_BCMM


class FixedConcepts(nn.Module):
    """A concept adds the same weighted features whatever the state: strength_f = strength * weight_f."""

    INPUTS = ("concepts_BC", "concept_strengths_BC")

    features_XM: Tensor
    weights_XM: Tensor

    def __init__(self, features_XM: Tensor, weights_XM: Tensor) -> None:
        """One row a concept; padding is feature 0 with weight 0."""
        super().__init__()
        self.register_buffer("features_XM", features_XM)
        self.register_buffer("weights_XM", weights_XM)

    def strengthen(self, concept: int, factor: float) -> None:
        """Makes strength 1 of a concept what `factor` was before."""
        self.weights_XM[concept] *= factor

    def forward(self, concepts_BC: Tensor, concept_strengths_BC: Tensor) -> ConceptEdits:
        features_BE = self.features_XM[concepts_BC].flatten(1)
        edits_BE = (self.weights_XM[concepts_BC] * concept_strengths_BC.unsqueeze(-1)).flatten(1)
        return ConceptEdits(features_BE, torch.ones_like(edits_BE), edits_BE)
