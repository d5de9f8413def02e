"""The catalogue: what each feature goes with, its label, and what steering it does.

Dimensions: S states, F features, U units (features or neurons), V attribute values, N items.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from steersman_training.attributes import AttributeValues
from steersman_training.edit import Edit
from steersman_training.labels import Labels, label_features
from steersman_training.states import States
from steersman_training.steering import Audience
from steersman_training.vocabulary import Vocabulary

TOP_ITEMS = 10
"""Items that a feature is shown by."""
MIN_ITEM_EVENTS = 5
"""Events that an item needs before a feature's mean activation at it counts."""
MIN_CORRELATION = 0.1
"""Below this, no attribute value is said to go with a feature."""
MIN_RISE = 0.02
"""Rise of the label's share of the lists, at strength 1, below which a feature is not steerable."""


class Fit(NamedTuple):
    """How well units tell states whose item has a value from the others."""

    correlation_UV: Tensor
    roc_auc_UV: Tensor


def fit_to_values(units_SU: Tensor, member_SV: Tensor) -> Fit:
    """Pearson correlation, and area under the ROC curve with ties counted half; 0 and 0.5 where a side is empty."""
    y_SV = member_SV.float()
    x_SU = units_SU.float()
    spread_U, spread_V = x_SU.std(0, correction=0), y_SV.std(0, correction=0)
    covariance_UV = (x_SU - x_SU.mean(0)).T @ (y_SV - y_SV.mean(0)) / len(x_SU)
    correlation_UV = covariance_UV / (spread_U[:, None] * spread_V).clamp_min(1e-12)
    positives_V = y_SV.sum(0).double()
    negatives_V = len(y_SV) - positives_V
    rank_sums_UV = _mean_ranks(x_SU).T @ y_SV.double()
    auc_UV = (rank_sums_UV - positives_V * (positives_V + 1) / 2) / (positives_V * negatives_V)
    return Fit(correlation_UV, auc_UV.nan_to_num(0.5).clamp(0, 1).float())


def _mean_ranks(x_SU: Tensor) -> Tensor:
    """Rank of each entry in its column from 1, the mean rank where entries are equal."""
    x_US = x_SU.T.contiguous()
    sorted_US = x_US.sort(dim=1).values
    below_US = torch.searchsorted(sorted_US, x_US)
    upto_US = torch.searchsorted(sorted_US, x_US, right=True)
    return ((below_US + upto_US + 1).double() / 2).T


@dataclass(frozen=True)
class Evidence:
    """What labels are made from: states to choose on, and others, of held-out users, to measure on."""

    chosen_on: States
    measured_on: States
    values: AttributeValues
    vocabulary: Vocabulary
    titles: list[str]


class Catalogue(NamedTuple):
    """What is known of each feature."""

    features: pl.DataFrame
    """One row a feature, with the columns of proto/README.md's features.parquet."""
    labels: Labels


@torch.no_grad()
def build_catalogue(edit: Edit, evidence: Evidence, people: Audience) -> Catalogue:
    """Associations and labels are chosen on some states and measured on others; effects are measured on `people`."""
    chosen_SF, measured_SF = (
        torch.cat([edit.sae.encode(part) for part in states.h_SD.split(4096)])
        for states in (evidence.chosen_on, evidence.measured_on)
    )
    means_FN, events_N = _mean_by_item(chosen_SF, evidence.chosen_on.items_S, len(evidence.titles))
    labels = label_features(means_FN, events_N, evidence.vocabulary, evidence.titles)
    columns: dict[str, Any] = {
        "feature": pl.Series(range(chosen_SF.shape[1]), dtype=pl.Int32),
        "label": labels.label,
        "description": [[f"{attribute}:{value}" for attribute, value in parts] for parts in labels.description],
        "confidence": _confidence(labels, measured_SF, evidence.measured_on.items_S),
        "density": (chosen_SF > 0).float().mean(0).tolist(),
        "scale": edit.scale_F.tolist(),
        "top_items": [
            [int(row) for row in order if mean[row] > 0]
            for mean, order in zip(
                means_FN, means_FN.topk(min(TOP_ITEMS, means_FN.shape[1]), dim=1).indices, strict=True
            )
        ],
    }
    associations = _associations(chosen_SF, measured_SF, evidence)
    rows = [
        {**association, **_effect(edit, feature, member_N, people)}
        for feature, (association, member_N) in enumerate(zip(associations, labels.predicted_FN, strict=True))
    ]
    table = pl.DataFrame(columns, schema_overrides=_COLUMNS).hstack(pl.DataFrame(rows, schema=_SCHEMA))
    return Catalogue(table, labels)


_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "description": pl.List(pl.String),
    "confidence": pl.Float32,
    "density": pl.Float32,
    "scale": pl.Float32,
    "top_items": pl.List(pl.Int32),
}
_SCHEMA = {
    "steerable": pl.Boolean,
    "attribute": pl.String,
    "value": pl.String,
    "correlation": pl.Float32,
    "roc_auc": pl.Float32,
    "neuron_correlation": pl.Float32,
    "neuron_roc_auc": pl.Float32,
    "share_before": pl.Float32,
    "share_after": pl.Float32,
    "ndcg_kept": pl.Float32,
}


def _mean_by_item(z_SF: Tensor, items_S: Tensor, item_count: int) -> tuple[Tensor, Tensor]:
    """Mean activation of each feature at each item (F, N), and of how many events (N,); both 0 where those are too few."""
    sums_NF = z_SF.new_zeros(item_count, z_SF.shape[1]).index_add_(0, items_S, z_SF)
    counts_N = torch.bincount(items_S, minlength=item_count)
    means_NF = sums_NF / counts_N.clamp_min(1)[:, None]
    known_N = counts_N >= min(MIN_ITEM_EVENTS, int(counts_N.max()))
    return (means_NF * known_N[:, None]).T, counts_N * known_N


def _associations(chosen_SF: Tensor, measured_SF: Tensor, evidence: Evidence) -> list[dict[str, Any]]:
    """Best attribute value of each feature, chosen on some states, measured on others beside the best neuron."""
    none = dict.fromkeys(("attribute", "value", "correlation", "roc_auc", "neuron_correlation", "neuron_roc_auc"))
    if not evidence.values.names:
        return [none for _ in range(chosen_SF.shape[1])]
    chosen_SV, measured_SV = (
        evidence.values.member_VN.to(chosen_SF.device)[:, states.items_S].T
        for states in (evidence.chosen_on, evidence.measured_on)
    )
    neurons_V = fit_to_values(evidence.chosen_on.h_SD, chosen_SV).correlation_UV.abs().argmax(0)
    best_F = fit_to_values(chosen_SF, chosen_SV).correlation_UV.max(1)
    features, neurons = fit_to_values(measured_SF, measured_SV), fit_to_values(evidence.measured_on.h_SD, measured_SV)
    rows: list[dict[str, Any]] = []
    for feature, (correlation, value) in enumerate(zip(best_F.values.tolist(), best_F.indices.tolist(), strict=True)):
        if correlation < MIN_CORRELATION:
            rows.append(none)
            continue
        neuron = int(neurons_V[value])
        attribute, name = evidence.values.names[value]
        neuron_auc = float(neurons.roc_auc_UV[neuron, value])
        rows.append(
            {
                "attribute": attribute,
                "value": name,
                "correlation": float(features.correlation_UV[feature, value]),
                "roc_auc": float(features.roc_auc_UV[feature, value]),
                "neuron_correlation": abs(float(neurons.correlation_UV[neuron, value])),
                "neuron_roc_auc": max(neuron_auc, 1 - neuron_auc),  # a neuron may speak by being low
            }
        )
    return rows


def _confidence(labels: Labels, z_SF: Tensor, items_S: Tensor) -> list[float]:
    """Share of the states where a feature fires whose item the label covers, over items that the label was not chosen on.

    Fires means half its peak or more. One more state is counted, with what share of all states the label covers, so that a
    feature that hardly fires there earns no confidence. 0 where no term fits.
    """
    new_S = ~labels.chosen_N[items_S]
    z_SF, covered_SF = z_SF[new_S], labels.predicted_FN[:, items_S[new_S]].T
    if not len(z_SF):
        return [0.0] * len(labels.label)
    fires_SF = (z_SF > 0) & (z_SF >= 0.5 * z_SF.amax(0))
    precision_F = ((fires_SF & covered_SF).sum(0) + covered_SF.float().mean(0)) / (fires_SF.sum(0) + 1)
    said = zip(precision_F.tolist(), labels.description, strict=True)
    return [precision if parts else 0.0 for precision, parts in said]


def _effect(edit: Edit, feature: int, member_N: Tensor, people: Audience) -> dict[str, Any]:
    """What strength 1 does to the share of the label's items in the lists, and what it costs."""
    if float(edit.scale_F[feature]) == 0:
        return {"share_before": None, "share_after": None, "ndcg_kept": None, "steerable": False}
    before = people.plain
    after = people.steered(edit, feature, 1.0)
    rise_B = after.share_B(member_N) - before.share_B(member_N)
    error = float(rise_B.std()) / len(rise_B) ** 0.5 if len(rise_B) > 1 else 0.0
    return {
        "share_before": before.share(member_N),
        "share_after": after.share(member_N),
        "ndcg_kept": after.ndcg / max(before.ndcg, 1e-9),
        "steerable": float(rise_B.mean()) >= max(MIN_RISE, 2 * error),
    }
