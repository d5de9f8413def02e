"""k-sparse probes (Gurnee et al., arXiv 2305.01610): how well the best k units together predict an attribute value, for growing k.

Dimensions: S states, U units, V attribute values, k units of a probe.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steersman_training.autoencoder.moments import Moments
from steersman_training.autoencoder.sae import SparseAutoencoder
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.catalogue.units import correlations, separation, take
from steersman_training.evaluation.meaning.meaning import Sides, feature_sides, item_truth, list_truth, neuron_sides

SIZES = (1, 2, 4, 8, 16)
"""Units of a probe."""
RIDGE = 1.0
"""Half the weight of the squared coefficients, beside the summed log loss, units having unit variance."""


@dataclass(frozen=True)
class Probe:
    """Logistic regressions on `size` units each, means over attribute values, on states that they were not fitted on."""

    size: int
    feature_roc_auc: float
    neuron_roc_auc: float
    feature_average_precision: float
    neuron_average_precision: float


@dataclass(frozen=True)
class Probes:
    """Probes of what single units were asked for too."""

    item: tuple[Probe, ...]
    """Whether the item just read has the value."""
    lists: tuple[Probe, ...]
    """Whether the ten items to come have more of the value than lists have on average."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@torch.no_grad()
def measure_probes(
    sae: SparseAutoencoder, chosen: Moments, measured: Moments, values: AttributeValues, sizes: tuple[int, ...] = SIZES
) -> Probes:
    """Units are chosen and probes fitted on some states, and measured on others, of held-out users."""
    sides = feature_sides(sae, chosen, measured), neuron_sides(chosen, measured)
    return Probes(
        *(
            _probes(*sides, truth.member, sizes) if values.names else ()
            for truth in (item_truth(values, chosen, measured), list_truth(values, chosen, measured))
        )
    )


def _probes(features: Sides, neurons: Sides, member: Sides, sizes: tuple[int, ...]) -> tuple[Probe, ...]:
    # Of a neuron's two signs one is enough here: coefficients have signs of their own.
    hidden = neurons.chosen.shape[1] // 2
    neurons = Sides(neurons.chosen[:, :hidden], neurons.measured[:, :hidden])
    (feature_auc, feature_ap), (neuron_auc, neuron_ap) = (_scores(kind, member, sizes) for kind in (features, neurons))
    return tuple(Probe(*row) for row in zip(sizes, feature_auc, neuron_auc, feature_ap, neuron_ap, strict=True))


def _scores(units: Sides, member: Sides, sizes: tuple[int, ...]) -> tuple[list[float], list[float]]:
    """ROC AUC and average precision for each size."""
    strongest_UV = correlations(units.chosen, member.chosen).abs().argsort(dim=0, descending=True, stable=True)
    scores = []
    for v, best_U in enumerate(strongest_UV[: max(sizes)].T):
        chosen_SU, measured_SU = take(units.chosen, best_U), take(units.measured, best_U)
        logits = [_fit_and_apply(chosen_SU[:, :k], member.chosen[:, v], measured_SU[:, :k]) for k in sizes]
        scores.append(separation(torch.stack(logits, dim=1), member.measured[:, v : v + 1]))
    auc, average_precision = (torch.cat(column, dim=1).mean(1).tolist() for column in zip(*scores, strict=True))
    return auc, average_precision


def _fit_and_apply(chosen_Sk: Tensor, member_S: Tensor, measured_Sk: Tensor) -> Tensor:
    """Logits of the measured states, (S,)."""
    mean_k, spread_k = chosen_Sk.mean(0), chosen_Sk.std(0, correction=0).clamp_min(1e-9)
    weights = fit_logistic(((chosen_Sk - mean_k) / spread_k).double(), member_S.double())
    return ((measured_Sk - mean_k) / spread_k).double() @ weights[:-1] + weights[-1]


def fit_logistic(x_Sk: Tensor, y_S: Tensor) -> Tensor:
    """Coefficients and, last, the intercept of the logistic regression with a small ridge on the coefficients, by L-BFGS. (k + 1,)"""
    weights = x_Sk.new_zeros(x_Sk.shape[1] + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits_S = x_Sk @ weights[:-1] + weights[-1]
        total = F.binary_cross_entropy_with_logits(logits_S, y_S) + RIDGE * weights[:-1].square().sum() / 2 / len(y_S)
        total.backward()
        return total

    with torch.enable_grad():
        optimiser.step(loss)
    return weights.detach()
