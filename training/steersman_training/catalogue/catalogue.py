"""The catalogue: what each feature goes with, its label, and what steering it does.

Dimensions: S states, F features, V attribute values, N items.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from steersman_training.autoencoder.edit import Edit
from steersman_training.autoencoder.states import States
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.catalogue.labels import Labels, label_features
from steersman_training.catalogue.steering import Audience
from steersman_training.catalogue.units import correlations, mean_by_item, separation
from steersman_training.catalogue.vocabulary import Vocabulary

TOP_ITEMS = 10
"""Items that a feature is shown by."""
MIN_CORRELATION = 0.1
"""Below this, no attribute value is said to go with a feature."""
MIN_RISE = 0.02
"""Rise of the label's share of the lists, at strength 1, below which a feature is not steerable."""


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
def build_catalogue(
    edit: Edit, evidence: Evidence, people: Audience, report: Callable[[int, int], None] = lambda done, total: None
) -> Catalogue:
    """Associations and labels are chosen on some states and measured on others; effects are measured on `people`.

    `report` is called with the features that are done, and all.
    """
    chosen_SF, measured_SF = (
        torch.cat([edit.sae.encode(part) for part in states.h_SD.split(4096)])
        for states in (evidence.chosen_on, evidence.measured_on)
    )
    items_S = evidence.chosen_on.items_S
    means_FN, known_N = mean_by_item(chosen_SF, items_S, len(evidence.titles))
    events_N = torch.bincount(items_S, minlength=len(evidence.titles)) * known_N
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
    rows = []
    for feature, (association, member_N) in enumerate(zip(associations, labels.predicted_FN, strict=True)):
        rows.append({**association, **_effect(edit, feature, member_N, people)})
        report(feature + 1, len(associations))
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


def _associations(chosen_SF: Tensor, measured_SF: Tensor, evidence: Evidence) -> list[dict[str, Any]]:
    """Best attribute value of each feature, chosen on some states, measured on others beside the best neuron."""
    none = dict.fromkeys(("attribute", "value", "correlation", "roc_auc", "neuron_correlation", "neuron_roc_auc"))
    if not evidence.values.names:
        return [none for _ in range(chosen_SF.shape[1])]
    chosen_SV, measured_SV = (
        evidence.values.member_VN.to(chosen_SF.device)[:, states.items_S].T
        for states in (evidence.chosen_on, evidence.measured_on)
    )
    neurons_V = correlations(evidence.chosen_on.h_SD, chosen_SV).abs().argmax(0)
    best_F = correlations(chosen_SF, chosen_SV).max(1)
    correlation_FV, neuron_correlation_VV = (
        correlations(units, measured_SV) for units in (measured_SF, evidence.measured_on.h_SD[:, neurons_V])
    )
    auc_FV, neuron_auc_VV = (
        separation(units, measured_SV).roc_auc_UV for units in (measured_SF, evidence.measured_on.h_SD[:, neurons_V])
    )
    rows: list[dict[str, Any]] = []
    for feature, (correlation, value) in enumerate(zip(best_F.values.tolist(), best_F.indices.tolist(), strict=True)):
        if correlation < MIN_CORRELATION:
            rows.append(none)
            continue
        attribute, name = evidence.values.names[value]
        neuron_auc = float(neuron_auc_VV[value, value])
        rows.append(
            {
                "attribute": attribute,
                "value": name,
                "correlation": float(correlation_FV[feature, value]),
                "roc_auc": float(auc_FV[feature, value]),
                "neuron_correlation": abs(float(neuron_correlation_VV[value, value])),
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
