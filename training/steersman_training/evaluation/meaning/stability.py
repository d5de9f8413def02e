"""Stability: which features are found again by an autoencoder of another seed, on the same states of the same recommender.

Dimensions: S states, D hidden, F features, G features of the other autoencoder, N items, K top items.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steersman_training.autoencoder.moments import Moments
from steersman_training.autoencoder.sae import SparseAutoencoder
from steersman_training.autoencoder.states import States
from steersman_training.catalogue.units import mean_by_item
from steersman_training.evaluation.meaning.units import features

ALIKE = 0.7
"""Cosine, or correlation, from which a feature counts as found again."""
TOP_ITEMS = 10
"""Items that a feature is compared by."""
ROWS = 512
"""Features that are compared with all others at a time."""


@dataclass(frozen=True)
class Stability:
    """Live features of one autoencoder beside those of another. Live: above zero in some of the states."""

    live: int
    """Features of the first that are live."""
    stable: float
    """Share of them whose best match has a decoder cosine of at least 0.7."""
    stable_one_to_one: float
    """The same, where each is moreover the best match of its match."""
    cosine: float
    """Mean over them of the best match's decoder cosine."""
    cosine_by_chance: float
    """The same against as many random directions, spread as the other decoder's rows are."""
    stable_by_items: float
    """Share of them for which some feature of the other has means at items that correlate by at least 0.7."""
    item_correlation: float
    """Mean over them of the highest such correlation."""
    item_jaccard: float
    """Mean Jaccard index of their ten top items and those of the best match by decoder."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@torch.no_grad()
def measure_stability(
    sae: SparseAutoencoder, other: SparseAutoencoder, states: Moments | States, item_count: int, seed: int = 0
) -> Stability:
    """How much of `sae` is found again in `other`. All zeros where one of them has no live feature."""
    (means_FN, decoder_FD), (means_GN, decoder_GD) = (_live(each, states, item_count) for each in (sae, other))
    if not len(means_FN) or not len(means_GN):
        return Stability(len(means_FN), *([0.0] * 7))
    cosine_F, match_F = best_match(decoder_FD, decoder_GD)
    _, back_G = best_match(decoder_GD, decoder_FD)
    mutual_F = back_G[match_F] == torch.arange(len(match_F), device=match_F.device)
    correlation_F, _ = best_match(_centred(means_FN), _centred(means_GN))
    return Stability(
        live=len(means_FN),
        stable=_share(cosine_F >= ALIKE),
        stable_one_to_one=_share((cosine_F >= ALIKE) & mutual_F),
        cosine=float(cosine_F.mean()),
        cosine_by_chance=float(best_match(decoder_FD, _spread_alike(decoder_GD, seed))[0].mean()),
        stable_by_items=_share(correlation_F >= ALIKE),
        item_correlation=float(correlation_F.mean()),
        item_jaccard=float(_jaccard(means_FN, means_GN[match_F]).mean()),
    )


def best_match(rows_FD: Tensor, others_GD: Tensor) -> tuple[Tensor, Tensor]:
    """Highest cosine of each row with any of the others, (F,), and which one that is, (F,)."""
    unit_GD = F.normalize(others_GD, dim=1)
    best = [(F.normalize(part, dim=1) @ unit_GD.T).max(1) for part in rows_FD.split(ROWS)]
    return torch.cat([each.values for each in best]), torch.cat([each.indices for each in best])


def _live(sae: SparseAutoencoder, states: Moments | States, item_count: int) -> tuple[Tensor, Tensor]:
    """Means at items and decoder rows of the live features."""
    z_SF = features(sae, states.h_SD)
    live = z_SF.indices()[1].unique()
    return mean_by_item(z_SF, states.items_S, item_count).means_UN[live], sae.decoder_FD[live]


def _centred(means_FN: Tensor) -> Tensor:
    """So that cosines are Pearson correlations."""
    return means_FN - means_FN.mean(1, keepdim=True)


def _spread_alike(rows_GD: Tensor, seed: int) -> Tensor:
    """As many random vectors with the mean and the covariance of these rows."""
    mean_D = rows_GD.mean(0)
    drawn_GG = torch.randn(len(rows_GD), len(rows_GD), generator=torch.Generator().manual_seed(seed)).to(rows_GD)
    drawn_GD: Tensor = mean_D + drawn_GG @ (rows_GD - mean_D) / len(rows_GD) ** 0.5
    return drawn_GD


def _jaccard(one_FN: Tensor, other_FN: Tensor) -> Tensor:
    """Jaccard index of the top items of each pair of rows, items at zero being none of them. (F,)"""
    one_FN, other_FN = (_is_top(means_FN) for means_FN in (one_FN, other_FN))
    return (one_FN & other_FN).sum(1) / (one_FN | other_FN).sum(1).clamp_min(1)


def _is_top(means_FN: Tensor) -> Tensor:
    best = means_FN.topk(min(TOP_ITEMS, means_FN.shape[1]), dim=1)
    return torch.zeros_like(means_FN, dtype=torch.bool).scatter_(1, best.indices, best.values > 0)


def _share(which_F: Tensor) -> float:
    return float(which_F.double().mean())
