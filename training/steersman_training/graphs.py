"""The graphs of a bundle (proto/README.md) as torch modules: what is exported is what the offline evaluation runs.

Dimensions: B batch, T time, P = T + 1 positions, D hidden, E edits, C concepts, M terms of a concept, N items, K top-k.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steersman_training.recommender import Recommender, last_position


class Lower(nn.Module):
    """Item ids to the hidden state at the hook. Below the last block, the other positions' states go along as context."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, items_ND: Tensor, ids_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, ...]:
        config = self.model.config
        x_BPD = self.model.run_blocks(self.model.embed(F.embedding(ids_BT, items_ND)), 0, config.hook_block)
        h_BD = last_position(x_BPD, lengths_B)
        return (h_BD,) if config.hook_block == config.blocks else (h_BD, x_BPD)


class Upper(nn.Module):
    """Hidden state to query. An edit at the last position reaches no other one, attention being causal."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, h_BD: Tensor, context_BPD: Tensor | None = None, lengths_B: Tensor | None = None) -> Tensor:
        if context_BPD is None or lengths_B is None:
            return self.model.query(h_BD)
        index_B1D = lengths_B.view(-1, 1, 1).expand(-1, 1, h_BD.shape[1])
        x_BPD = context_BPD.scatter(1, index_B1D, h_BD.unsqueeze(1))
        x_BPD = self.model.run_blocks(x_BPD, self.model.config.hook_block, self.model.config.blocks)
        return self.model.query(last_position(x_BPD, lengths_B))


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


class FixedConcepts(nn.Module):
    """A concept adds the same weighted features whatever the state: strength_f = strength * weight_f."""

    features_XM: Tensor
    weights_XM: Tensor

    def __init__(self, features_XM: Tensor, weights_XM: Tensor) -> None:
        """One row a concept; padding is feature 0 with weight 0."""
        super().__init__()
        self.register_buffer("features_XM", features_XM)
        self.register_buffer("weights_XM", weights_XM)

    def forward(self, concepts_BC: Tensor, concept_strengths_BC: Tensor) -> ConceptEdits:
        features_BE = self.features_XM[concepts_BC].flatten(1)
        edits_BE = (self.weights_XM[concepts_BC] * concept_strengths_BC.unsqueeze(-1)).flatten(1)
        return ConceptEdits(features_BE, torch.ones_like(edits_BE), edits_BE)
