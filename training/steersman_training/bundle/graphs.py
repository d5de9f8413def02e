"""The graphs of a bundle (proto/README.md) as torch modules: what is exported is what the offline evaluation runs.

Dimensions: B batch, T time, P = T + 1 positions, D hidden, E edits, C concepts of a request, X concepts in all, M features of a concept,
N items, K top-k or candidates.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman_training.autoencoder.edit import Edit
from steersman_training.recommender.model import Recommender, last_position

MOST_CANDIDATES = 512  # best items of a user on which a concept may be solved
NEWTON_STEPS = 2  # of a concept's solution: the tilt is approached in as many equal parts
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
        count = cast(int, k.item())
        torch._check(count >= 1)
        torch._check(count <= scores_BN.shape[1])
        scores_BK, rows_BK = torch.topk(scores_BN, count, dim=1)
        return TopItems(rows_BK, scores_BK)


def _eligible_scores(
    query_BD: Tensor, items_ND: Tensor, biases_N: Tensor, eligible_BN: Tensor, tilts_BN: Tensor
) -> Tensor:
    return (F.linear(query_BD, items_ND, biases_N) + tilts_BN).masked_fill(~eligible_BN, float("-inf"))


class ConceptEdits(NamedTuple):
    """Edits that concepts come down to, as many for each concept."""

    concept_features_BE: Tensor
    concept_gains_BE: Tensor
    concept_edits_BE: Tensor


class Solver(NamedTuple):
    """How concepts are solved."""

    candidates: int = 256  # best items of a user on which they are solved, at most MOST_CANDIDATES
    ridge: float = 0.05  # relative to a feature's own curvature; keeps weights of similar features small


class SolvedConcepts(nn.Module):
    """A concept is solved for the state at hand: its features move the scores as a tilt by its attribute value would.

    With s the scores of the user's best items, lean the direction of the concept (1 for items with an attribute value, or a standard
    score), and J the change of s by each feature's strength,

        minimise over w:  KL( softmax(s + strength * tilt * lean) || softmax(s + J w) )

    by a few Newton steps with a ridge. Scores are linear in a state that is the query, so J is exact. A tilt is the target since it is the
    cheapest way to raise a known attribute: of all distributions with that share it is the closest to the user's own. The solution
    is in double precision (J need not be): its rounding error grows with the condition, and backends must agree.

    Rounding may decide which item is the last candidate, so it must not matter: if there are more items than candidates, each
    candidate counts by its taper t, which falls to 0 there. s is s + log t, lean is t * lean, and J is t * J.
    """

    INPUTS = ("candidates_BK", "candidate_scores_BK", "items_ND", "concepts_BC", "concept_strengths_BC")

    features_XM: Tensor
    directions_XMD: Tensor
    leans_XN: Tensor
    tilts_X: Tensor

    def __init__(self, edit: Edit, features_XM: Tensor, leans_XN: Tensor, tilts_X: Tensor, solver: Solver) -> None:
        super().__init__()
        self.candidates, self.ridge = solver
        directions_XMD = edit.scale_F[features_XM].unsqueeze(-1) * edit.sae.decoder_FD[features_XM]
        self.register_buffer("features_XM", features_XM)
        self.register_buffer("directions_XMD", directions_XMD)
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
        scores_BK = candidate_scores_BK.clamp_min(INELIGIBLE).double()
        chosen = self.candidates < self.leans_XN.shape[1]
        taper_BK = _taper(scores_BK) if chosen else torch.ones_like(scores_BK)
        taper_B1K = taper_BK.unsqueeze(1)
        items_BKD = F.embedding(candidates_BK, items_ND) * taper_BK.unsqueeze(-1).float()
        scores_B1K = scores_BK.unsqueeze(1) + taper_B1K.clamp_min(TINY).log()
        jacobian_BCKM = (items_BKD.unsqueeze(1) @ self.directions_XMD[concepts_BC].transpose(-1, -2)).double()
        rows_BCK = concepts_BC.unsqueeze(-1) * self.leans_XN.shape[1] + candidates_BK.unsqueeze(1)
        lean_BCK = F.embedding(rows_BCK, self.leans_XN.view(-1, 1)).squeeze(-1) * taper_B1K
        tilts_BCK = lean_BCK * (self.tilts_X[concepts_BC] * concept_strengths_BC).unsqueeze(-1)
        now_BCK, weights_BCM = scores_B1K.softmax(-1), jacobian_BCKM.new_zeros(())
        for step in range(1, NEWTON_STEPS + 1):
            wanted_BCK = (scores_B1K + tilts_BCK * (step / NEWTON_STEPS)).softmax(-1)
            weights_BCM = weights_BCM + _newton_step(jacobian_BCKM, now_BCK, wanted_BCK, self.ridge)
            now_BCK = (scores_B1K + (jacobian_BCKM @ weights_BCM.unsqueeze(-1)).squeeze(-1)).softmax(-1)
        moved_BC1 = weights_BCM.abs().amax(-1, keepdim=True) >= LEAST_EDIT
        edits_BE = weights_BCM.masked_fill(~moved_BC1, 0.0).flatten(1).float()
        return ConceptEdits(self.features_XM[concepts_BC].flatten(1), torch.ones_like(edits_BE), edits_BE)


def _taper(scores_BK: Tensor) -> Tensor:
    """The weight of each candidate: 0 for the last one, 1 from TAPER_NATS above it."""
    return ((scores_BK - scores_BK.amin(-1, keepdim=True)) / TAPER_NATS).clamp_max(1.0)


def _newton_step(jacobian_BCKM: Tensor, now_BCK: Tensor, wanted_BCK: Tensor, ridge: float) -> Tensor:
    """The change of weights that brings one distribution to another, in the Fisher metric half way between them. (B, C, M)

    With F the Fisher matrix, (F + ridge diag(c)) w = slope. The ridge is relative to a feature's effect: c is its curvature, F's
    diagonal, and `ridge` of the mean one, since it may be next to nothing. Beside that scale the condition is at most 1 + M / ridge.
    ONNX has neither an inverse nor a linear solve, so a graph of ONNX uses ONNX Runtime's own.
    """
    count = jacobian_BCKM.shape[-1]
    identity_MM = torch.eye(count, dtype=jacobian_BCKM.dtype, device=jacobian_BCKM.device)
    metric_BCK = 0.5 * (now_BCK + wanted_BCK)
    mean_BC1M = metric_BCK.unsqueeze(-2) @ jacobian_BCKM
    square_BCMM = (jacobian_BCKM * metric_BCK.unsqueeze(-1)).transpose(-1, -2) @ jacobian_BCKM
    fisher_BCMM = square_BCMM - mean_BC1M.transpose(-1, -2) @ mean_BC1M
    floor_BC11 = (fisher_BCMM * (identity_MM * (ridge * ridge / count))).sum((-1, -2), keepdim=True).clamp_min(TINY)
    ridged_BCMM = fisher_BCMM * (1 + ridge * identity_MM) + floor_BC11 * identity_MM
    slope_BC1M = (wanted_BCK - now_BCK).unsqueeze(-2) @ jacobian_BCKM
    if torch.compiler.is_exporting():
        inverse_BCMM: Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::Inverse", (ridged_BCMM,), dtype=ridged_BCMM.dtype, shape=ridged_BCMM.shape, version=1
        )
    else:  # unlike `inv`, it does not wait for a GPU
        inverse_BCMM = torch.linalg.inv_ex(ridged_BCMM).inverse
    return (slope_BC1M @ inverse_BCMM).squeeze(-2)


class FixedConcepts(nn.Module):
    """A concept adds the same weighted features in every state: strength_f = strength * weight_f."""

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
