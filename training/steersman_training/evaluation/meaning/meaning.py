"""Meaning: how well single features and single neurons go with attribute values, each chosen on some states and measured on others.

Dimensions: S states, D hidden, F features, U units (features, or neurons with a sign), V attribute values, N items.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from steersman_training.autoencoder.moments import Moments
from steersman_training.autoencoder.sae import SparseAutoencoder
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.catalogue.units import correlations, separation, take
from steersman_training.evaluation.meaning.units import features, neurons

UnitKind = Literal["feature", "neuron"]
Measure = Literal[
    "correlation", "roc_auc", "average_precision", "density", "precision", "best_roc_auc", "best_average_precision"
]


@dataclass(frozen=True)
class UnitFit:
    """The unit that correlates best with a value on the states it was chosen on, and its figures on the others."""

    unit: int
    """Index of the feature or of the neuron."""
    sign: int
    """-1 for a neuron that represents the value by being low, else 1."""
    correlation: float
    """Pearson."""
    roc_auc: float
    """Area under the ROC curve; 0.5 is chance."""
    average_precision: float
    """Area under the precision-recall curve, to be compared with `base_rate`."""
    density: float
    """Share of states where it is above zero (of a neuron: on its side of its mean)."""
    precision: float
    """Share of the states with the value among those where it reaches half of its peak. 0 where it never does."""
    best_roc_auc: float
    """The same of the unit that was chosen by it instead of by correlation."""
    best_average_precision: float
    """The same of the unit that was chosen by it."""


@dataclass(frozen=True)
class ValueFit:
    """One attribute value."""

    attribute: str
    value: str
    mean: float
    """Mean of the truth: share of states whose item has the value, or mean share of the lists."""
    base_rate: float
    """Share of states that count as having the value where a yes or no is needed."""
    feature: UnitFit
    neuron: UnitFit


@dataclass(frozen=True)
class Association:
    """How well units predict one truth about states, over attribute values."""

    values: tuple[ValueFit, ...]

    def mean(self, kind: UnitKind, measure: Measure) -> float:
        """Mean over values; 0 if there are none."""
        parts: list[float] = [getattr(getattr(value, kind), measure) for value in self.values]
        return sum(parts) / max(len(parts), 1)

    def times_neuron(self, measure: Measure) -> float:
        """Mean of the features as a multiple of the neurons'."""
        return self.mean("feature", measure) / max(self.mean("neuron", measure), 1e-9)


@dataclass(frozen=True)
class Meaning:
    """How well single units predict."""

    item: Association
    """Whether the item just read has the value."""
    lists: Association
    """The share of the value in the ten items to come. A yes, where one is needed, is more than its mean over the states chosen on."""

    def figures(self) -> dict[str, float]:
        """The figures that are compared with published ones: means over values of the best unit's correlation."""
        return {
            "corr_item": self.item.mean("feature", "correlation"),
            "corr_item_x_neuron": self.item.times_neuron("correlation"),
            "corr_list": self.lists.mean("feature", "correlation"),
            "corr_list_x_neuron": self.lists.times_neuron("correlation"),
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Sides(NamedTuple):
    """The same thing of the states that units are chosen on and of those that they are measured on."""

    chosen: Tensor
    measured: Tensor


class Truth(NamedTuple):
    """The truth about states that units are to predict."""

    amount: Sides  # (S, V) numbers or bool
    member: Sides  # (S, V) bool


@torch.no_grad()
def measure_meaning(sae: SparseAutoencoder, chosen: Moments, measured: Moments, values: AttributeValues) -> Meaning:
    """The best feature and the best neuron for each value, chosen on some states and measured on others, of held-out users."""
    units: dict[UnitKind, Sides] = {
        "feature": feature_sides(sae, chosen, measured),
        "neuron": neuron_sides(chosen, measured),
    }
    return Meaning(
        *(
            _associate(units, truth, values.names, chosen.h_SD.shape[1])
            for truth in (item_truth(values, chosen, measured), list_truth(values, chosen, measured))
        )
    )


def feature_sides(sae: SparseAutoencoder, chosen: Moments, measured: Moments) -> Sides:
    """Activations of both, sparse, (S, F)."""
    return Sides(features(sae, chosen.h_SD), features(sae, measured.h_SD))


def neuron_sides(chosen: Moments, measured: Moments) -> Sides:
    """Neurons of both, (S, 2 D), about the mean of the first."""
    mean_D = chosen.h_SD.mean(0)
    return Sides(neurons(chosen.h_SD, mean_D), neurons(measured.h_SD, mean_D))


def item_truth(values: AttributeValues, chosen: Moments, measured: Moments) -> Truth:
    """Whether the item just read has each value."""
    member_NV = values.member_VN.to(chosen.h_SD.device).T
    sides = Sides(member_NV[chosen.items_S], member_NV[measured.items_S])
    return Truth(sides, sides)


def list_truth(values: AttributeValues, chosen: Moments, measured: Moments) -> Truth:
    """The share of each value in the list to come, and whether it is above its mean."""
    member_VN = values.member_VN.to(chosen.h_SD.device)
    shares = Sides(chosen.list_means(member_VN), measured.list_means(member_VN))
    mean_V = shares.chosen.mean(0)
    return Truth(shares, Sides(shares.chosen > mean_V, shares.measured > mean_V))


def _associate(units: dict[UnitKind, Sides], truth: Truth, names: list[tuple[str, str]], hidden: int) -> Association:
    if not names:
        return Association(())
    fits = {kind: _best_units(sides, truth) for kind, sides in units.items()}
    means, rates = truth.amount.measured.double().mean(0).tolist(), truth.member.measured.double().mean(0).tolist()
    return Association(
        tuple(
            ValueFit(
                attribute,
                value,
                means[v],
                rates[v],
                UnitFit(unit=int(fits["feature"][0][v]), sign=1, **_of(fits["feature"][1], v)),
                UnitFit(
                    unit=int(fits["neuron"][0][v]) % hidden,
                    sign=1 if int(fits["neuron"][0][v]) < hidden else -1,
                    **_of(fits["neuron"][1], v),
                ),
            )
            for v, (attribute, value) in enumerate(names)
        )
    )


def _of(measures: dict[str, Tensor], v: int) -> dict[str, float]:
    return {name: float(measure_V[v]) for name, measure_V in measures.items()}


def _best_units(units: Sides, truth: Truth) -> tuple[Tensor, dict[str, Tensor]]:
    """The unit of each value that correlates best with it, (V,), and the measures of `UnitFit`, each (V,)."""
    best_V = correlations(units.chosen, truth.amount.chosen).argmax(0)
    separated = separation(units.chosen, truth.member.chosen)
    member_SV = truth.member.measured
    x_SV = take(units.measured, best_V)
    plain = separation(x_SV, member_SV)
    fires_SV = (x_SV > 0) & (x_SV >= 0.5 * take(units.chosen, best_V).amax(0))
    measures = {
        "correlation": correlations(x_SV, truth.amount.measured).diagonal(),
        "roc_auc": plain.roc_auc_UV.diagonal(),
        "average_precision": plain.average_precision_UV.diagonal(),
        "density": (x_SV > 0).double().mean(0),
        "precision": (fires_SV & member_SV).sum(0) / fires_SV.sum(0).clamp_min(1),
    }
    for name, chosen_UV in zip(("roc_auc", "average_precision"), separated, strict=True):
        rival = separation(take(units.measured, chosen_UV.argmax(0)), member_SV)
        measures[f"best_{name}"] = getattr(rival, f"{name}_UV").diagonal()
    return best_V, measures


def detection(means_FN: Tensor, predicted_FN: Tensor, excluded_FN: Tensor) -> Tensor:
    """How well a label predicts, on items it was not made from, where its feature fires: the detection score, an ROC AUC. (F,)

    `means_FN` are mean activations at items over held-out states; `predicted_FN` says of each item whether the label covers it (bool, or
    the probability of that); items of `excluded_FN` are left out: those that the label was made from, and those without enough states.
    The score is the probability that the feature is stronger at an item that the label covers than at one that it does not, ties counted
    half. nan where the label covers none, or all, of the items that are left. Detection as in Paulo et al. (arXiv 2410.13928), with what
    the feature does as the ranking, since the label is a yes or no.
    """
    weight_FN = torch.where(excluded_FN, 0.0, predicted_FN.double())
    against_FN = torch.where(excluded_FN, 0.0, 1 - predicted_FN.double())
    order_FN = means_FN.argsort(dim=1)
    x_FN, against_FN = means_FN.gather(1, order_FN), against_FN.gather(1, order_FN)
    below_F0N = torch.nn.functional.pad(against_FN.cumsum(1), (1, 0))
    less_FN, upto_FN = (
        below_F0N.gather(1, torch.searchsorted(x_FN.contiguous(), means_FN.contiguous(), right=right))
        for right in (False, True)
    )
    wins_F = (weight_FN * (less_FN + upto_FN) / 2).sum(1)
    score_F: Tensor = wins_F / (weight_FN.sum(1) * below_F0N[:, -1])
    return score_F.float()
