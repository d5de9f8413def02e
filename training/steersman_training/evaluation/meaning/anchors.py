"""Anchored features: whether each goes with its own value, and whether the edits of concepts mean what the concepts say.

Dimensions: S states, F features, V attribute values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from steersman_training.autoencoder.moments import Moments
from steersman_training.autoencoder.sae import SparseAutoencoder
from steersman_training.catalogue.aims import Aim
from steersman_training.catalogue.attributes import AttributeValues
from steersman_training.catalogue.units import correlations, take
from steersman_training.evaluation.meaning.units import features


@dataclass(frozen=True)
class AnchorFit:
    """The anchored feature of one attribute value, on states of held-out users."""

    attribute: str
    value: str
    feature: int
    correlation_item: float
    """Pearson, with whether the item just read has the value."""
    correlation_list: float
    """Pearson, with the value's share of the ten items to come."""
    best_value: str
    """The value of the attribute whose share of the ten items to come it correlates best with."""


class Weight(NamedTuple):
    """What a concept adds to a feature."""

    feature: int
    raised: float
    lowered: float  # without its sign


class Agreement(NamedTuple):
    """Means over concepts."""

    sign: float
    """Share of a concept's edits, by strength, whose sign is that of their feature's correlation with the value in the list to come."""
    label: float
    """The same of edits to features that correlate with no other value of the attribute as well as with the concept's."""


@torch.no_grad()
def measure_anchors(
    sae: SparseAutoencoder, aims: Sequence[Aim], measured: Moments, values: AttributeValues
) -> tuple[AnchorFit, ...]:
    """Of each value of one attribute that has an anchored feature: aim v has the v-th."""
    place = {(aim.attribute, aim.value): sae.discovered + row for row, aim in enumerate(aims)}
    found = [place[name] for name in values.names if name in place]
    if not found or max(found) >= len(sae.decoder_FD):
        return ()
    member_VN = values.member_VN.to(measured.h_SD.device)
    units_SF = take(features(sae, measured.h_SD), torch.tensor(found, device=member_VN.device))
    lists_FV = correlations(units_SF, measured.list_means(member_VN))
    items_FV = correlations(units_SF, member_VN[:, measured.items_S].T)
    best_F = lists_FV.argmax(1).tolist()
    return tuple(
        AnchorFit(*name, feature, float(items_FV[v, v]), float(lists_FV[v, v]), values.names[best_F[v]][1])
        for v, (name, feature) in enumerate(zip(values.names, found, strict=True))
    )


@torch.no_grad()
def measure_agreement(
    sae: SparseAutoencoder, edits: Sequence[tuple[str, Sequence[Weight]]], measured: Moments, values: AttributeValues
) -> Agreement | None:
    """Of the edits of concepts, each with the value of the attribute that it raises. None: there are none.

    Independent of how labels were given: from the lists to come of held-out users.
    """
    names = [value for _, value in values.names]
    used = sorted({each.feature for _, weights in edits for each in weights})
    sides: list[tuple[float, float]] = []
    if used:
        units_SF = take(features(sae, measured.h_SD), torch.tensor(used, device=measured.h_SD.device))
        found_FV = correlations(units_SF, measured.list_means(values.member_VN.to(measured.h_SD.device)))
    for value, weights in edits:
        total = sum(each.raised + each.lowered for each in weights)
        if total > 0:
            rows = [found_FV[used.index(each.feature)] for each in weights]
            v = names.index(value)
            signs = [
                each.raised if row_V[v] > 0 else each.lowered if row_V[v] < 0 else 0.0
                for each, row_V in zip(weights, rows, strict=True)
            ]
            labels = [
                each.raised + each.lowered
                for each, row_V in zip(weights, rows, strict=True)
                if int(row_V.argmax()) == v
            ]
            sides.append((sum(signs) / total, sum(labels) / total))
    if not sides:
        return None
    return Agreement(*(sum(column) / len(sides) for column in zip(*sides, strict=True)))
