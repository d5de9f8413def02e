"""The catalogue: the attribute value that each feature correlates with, its label, and the effect of steering it.

Dimensions: S states, F features, V attribute values, N items.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from steersman_training.autoencoder.edit import Edit
from steersman_training.autoencoder.moments import Moments
from steersman_training.catalogue.aims import Aim
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.catalogue.labels import Labels, label_anchors, label_features
from steersman_training.catalogue.steering import Audience
from steersman_training.catalogue.units import correlations, mean_by_item, separation
from steersman_training.catalogue.vocabulary import Vocabulary

TOP_ITEMS = 10  # items that a feature is shown by
MIN_CORRELATION = 0.1  # of a feature with its attribute value
MIN_RISE = 0.02  # of the label's share of the lists, at strength 1, from which a feature is steerable
MEASURES = ("correlation", "roc_auc", "neuron_correlation", "neuron_roc_auc")
EFFECTS = ("share_before", "share_after", "ndcg_kept")


@dataclass(frozen=True)
class Evidence:
    """Input of the labels: states to choose on, and others, of held-out users, to measure on."""

    chosen_on: Moments
    measured_on: Moments
    values: AttributeValues
    vocabulary: Vocabulary
    titles: list[str]
    aims: list[Aim]  # of the anchored features


class FeatureTable(NamedTuple):
    """The catalogue of the features."""

    features: pl.DataFrame  # one row a feature, with the columns of proto/README.md's features.parquet
    labels: Labels


@torch.no_grad()
def build_catalogue(
    edit: Edit, evidence: Evidence, people: Audience, report: Callable[[int, int], None] = lambda done, total: None
) -> FeatureTable:
    """Associations and labels are chosen on some states and measured on others; effects are measured on `people`.

    `report` is called with the number of features done, and of all.
    """
    states = (evidence.chosen_on, evidence.measured_on)
    chosen_SF, measured_SF = (edit.sae.encode_all(part.h_SD) for part in states)
    items_S = evidence.chosen_on.items_S
    means_FN, known_N = mean_by_item(chosen_SF, items_S, len(evidence.titles))
    events_N = torch.bincount(items_S, minlength=len(evidence.titles)) * known_N
    found = edit.sae.discovered
    labels = label_features(means_FN[:found], events_N, evidence.vocabulary, evidence.titles)
    labels = labels.joined(label_anchors(means_FN[found:], events_N, evidence.aims, evidence.titles))
    top_FK = means_FN.topk(min(TOP_ITEMS, means_FN.shape[1]), dim=1)
    columns: dict[str, Any] = {
        "feature": pl.Series(range(chosen_SF.shape[1]), dtype=pl.Int32),
        "kind": ["discovered"] * found + ["anchored"] * (len(means_FN) - found),
        "label": labels.label,
        "description": [[f"{attribute}:{value}" for attribute, value in parts] for parts in labels.description],
        "confidence": _confidence(labels, measured_SF, evidence.measured_on.items_S),
        "density": (chosen_SF > 0).float().mean(0).tolist(),
        "scale": edit.scale_F.tolist(),
        "top_items": [
            [row for row, mean in zip(rows, means, strict=True) if mean > 0]
            for means, rows in zip(top_FK.values.tolist(), top_FK.indices.tolist(), strict=True)
        ],
    }
    associations, rows = _associations(chosen_SF, measured_SF, evidence), []
    for feature, (association, member_N) in enumerate(zip(associations, labels.predicted_FN, strict=True)):
        rows.append({**_effect(edit, feature, member_N, people), **association})
        report(feature + 1, len(associations))
    types: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(("confidence", "density", "scale"), pl.Float32)
    types |= {"description": pl.List(pl.String), "top_items": pl.List(pl.Int32)}
    schema = {"steerable": pl.Boolean, "attribute": pl.String, "value": pl.String}
    measured = pl.DataFrame(rows, schema=schema | dict.fromkeys((*MEASURES, *EFFECTS), pl.Float32))
    return FeatureTable(pl.DataFrame(columns, schema_overrides=types).hstack(measured), labels)


def _associations(chosen_SF: Tensor, measured_SF: Tensor, evidence: Evidence) -> list[dict[str, Any]]:
    """Best attribute value of each feature, chosen on some states, measured on others beside the best neuron."""
    none: dict[str, Any] = dict.fromkeys(("attribute", "value", *MEASURES))
    names, (chosen, measured) = evidence.values.names, (evidence.chosen_on, evidence.measured_on)
    if not names:
        return [none] * chosen_SF.shape[1]
    member_VN = evidence.values.member_VN.to(chosen_SF.device)
    chosen_SV, measured_SV = (member_VN[:, states.items_S].T for states in (chosen, measured))
    neurons_SV = measured.h_SD[:, correlations(chosen.h_SD, chosen_SV).abs().argmax(0)]
    best_F = correlations(chosen_SF, chosen_SV).max(1)
    correlation_FV, neuron_correlation_VV = (correlations(units, measured_SV) for units in (measured_SF, neurons_SV))
    auc_FV, neuron_auc_VV = (separation(units, measured_SV).roc_auc_UV for units in (measured_SF, neurons_SV))
    rows = []
    for feature, (correlation, value) in enumerate(zip(best_F.values.tolist(), best_F.indices.tolist(), strict=True)):
        auc, neuron_auc = float(auc_FV[feature, value]), float(neuron_auc_VV[value, value])
        neuron_auc = max(neuron_auc, 1 - neuron_auc)  # a neuron may represent a value by being low
        neuron_correlation = abs(float(neuron_correlation_VV[value, value]))
        figures = (float(correlation_FV[feature, value]), auc, neuron_correlation, neuron_auc)
        row = dict(zip(none, (*names[value], *figures), strict=True))
        rows.append(row if correlation >= MIN_CORRELATION else none)
    return rows


def _confidence(labels: Labels, z_SF: Tensor, items_S: Tensor) -> list[float]:
    """Share of the states where a feature fires whose item the label covers, over items that the label was not chosen on.

    A feature fires at half its peak or more. One more state is counted, with the share of all states that the label covers, so that
    a feature that hardly fires has no confidence. 0 if no term fits.
    """
    new_S = ~labels.chosen_N[items_S]
    z_SF, covered_SF = z_SF[new_S], labels.predicted_FN[:, items_S[new_S]].T
    if not len(z_SF):
        return [0.0] * len(labels.label)
    fires_SF = (z_SF > 0) & (z_SF >= 0.5 * z_SF.amax(0))
    precision_F = ((fires_SF & covered_SF).sum(0) + covered_SF.float().mean(0)) / (fires_SF.sum(0) + 1)
    labelled = zip(precision_F.tolist(), labels.description, strict=True)
    return [precision if parts else 0.0 for precision, parts in labelled]


def _effect(edit: Edit, feature: int, member_N: Tensor, people: Audience) -> dict[str, Any]:
    """The effect of strength 1 on the share of the label's items in the lists, and on NDCG."""
    if float(edit.scale_F[feature]) == 0:
        return {**dict.fromkeys(EFFECTS), "steerable": False}
    before = people.plain
    after = people.steered(edit, feature, 1.0)
    rise_B = after.share_B(member_N) - before.share_B(member_N)
    error = float(rise_B.std()) / len(rise_B) ** 0.5 if len(rise_B) > 1 else 0.0
    steerable = float(rise_B.mean()) >= max(MIN_RISE, 2 * error)
    effect = (before.share(member_N), after.share(member_N), after.ndcg / max(before.ndcg, 1e-9))
    return {**dict(zip(EFFECTS, effect, strict=True)), "steerable": steerable}
