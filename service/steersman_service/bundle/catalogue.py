"""The catalogue: features and concepts as callers see them, built once when a bundle is loaded."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from steersman.v1.feature_service_pb2 import (
    FEATURE_KIND_ANCHORED,
    FEATURE_KIND_DISCOVERED,
    FEATURE_KIND_UNSPECIFIED,
    Association,
    Concept,
    ConceptTerm,
    Effect,
    EffectPoint,
    Feature,
    FeatureKind,
)
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from steersman_service.errors import BundleError

Row = Mapping[str, Any]

NATURAL_RANGE = 2.0
"""Largest magnitude of a strength that is called natural."""
# As the tables hold it.
LEAST_DENSITY = float(np.float32(0.005))
CLUSTERS = "co_consumption"
"""The attribute of clusters: their values are titles, which say more without its name."""
# What the concepts of numbers that every bundle may have bring more of.
NUMBERS = {"year": "Newer (year)", "popularity": "More popular", "exposure": "Shown more often"}
KINDS = {"discovered": FEATURE_KIND_DISCOVERED, "anchored": FEATURE_KIND_ANCHORED}


class Units(NamedTuple):
    """How many of its own units a control's strength of 1, or of -1, is: natural maxima of a feature; of a concept, its calibration."""

    up: float
    down: float

    def of(self, strength: float) -> float:
        """A control's strength in its own units."""
        return strength * (self.up if strength > 0 else self.down)

    def needed(self, strength: float) -> float:
        """The control's strength that is `strength` in its own units."""
        return strength / (self.up if strength > 0 else self.down)


class Catalogue:
    """Feature f is row f, concept c is row c."""

    def __init__(self, bundle: Bundle, items: Items) -> None:
        self.features: list[Feature] = _rows("features.parquet", bundle.features, items, _feature)
        self.concepts: list[Concept] = _rows("concepts.parquet", bundle.concepts, items, _concept)
        if any(row != feature.id for row, feature in enumerate(self.features)):
            raise BundleError("features.parquet", "row f is not feature f")
        self.labels = [feature.label for feature in self.features]
        self.automatic_labels = tuple(self.labels)
        """Without corrections: what answers are computed from, so that all replicas give the same ones at any time."""
        self.labels_elsewhere: Mapping[tuple[str, int], str] = {}
        """Corrected labels of features of other bundles, by bundle version and feature."""
        self.concept_rows = {concept.name: row for row, concept in enumerate(self.concepts)}
        self.feature_units = [Units(feature.unit_up, feature.unit_down) for feature in self.features]
        self.concept_units = [Units(concept.unit_up, concept.unit_down) for concept in self.concepts]
        self._ranked = self._searched()
        values = Counter(concept.value for concept in self.concepts)
        for concept in self.concepts:
            concept.display_name = _display_name(concept, alone=values[concept.value] == 1)

    def relabel(self, corrected: Mapping[int, Feature], elsewhere: Mapping[tuple[str, int], str]) -> None:
        """Features have the labels that are `corrected`, and automatic ones otherwise."""
        for feature in self.features:
            correction = corrected.get(feature.id)
            feature.label = correction.label if correction else self.automatic_labels[feature.id]
            feature.ClearField("correction")
            if correction:
                feature.correction.CopyFrom(correction.correction)
            self.labels[feature.id] = feature.label
        self.labels_elsewhere = elsewhere
        self._ranked = self._searched()

    def _searched(self) -> list[tuple[Feature, tuple[str, str, str]]]:
        """The features in the order in which they are listed, and what of each is searched."""
        return [(feature, _fields(feature)) for feature in sorted(self.features, key=_rank)]

    def search_features(
        self,
        text: str,
        *,
        steerable_only: bool = False,
        include_rare: bool = False,
        kind: FeatureKind = FEATURE_KIND_UNSPECIFIED,
    ) -> list[Feature]:
        """Features whose label, attribute value or top titles contain `text`, in any case: those whose label does first, then those whose
        value does, as whole words before parts of words. Among equals, as with no text: steerable ones first, then clear ones."""
        wanted = text.casefold()
        whole = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
        found = [
            (_tier(fields, wanted, whole), feature)
            for feature, fields in self._ranked
            if (not wanted or any(wanted in field for field in fields))
            and (feature.steerable or not steerable_only)
            and (feature.density >= LEAST_DENSITY or include_rare)
            and (feature.kind == kind or not kind)
        ]
        return [feature for _, feature in sorted(found, key=lambda each: each[0])]

    def search_concepts(self, text: str) -> list[Concept]:
        """Concepts whose name or display name contains `text`, in any case: those that begin with it first; among equals, by row."""
        wanted = text.casefold()
        named = [(concept, (concept.name.casefold(), concept.display_name.casefold())) for concept in self.concepts]
        found = [(concept, names) for concept, names in named if any(wanted in name for name in names)]
        found.sort(key=lambda each: not any(name.startswith(wanted) for name in each[1]))
        return [concept for concept, _ in found]


def _rows(file: str, table: pa.Table, items: Items, build: Any) -> list[Any]:
    try:
        return [build(row, items) for row in table.to_pylist()]
    except KeyError as error:
        raise BundleError(file, f"has no column {error}") from None
    except (IndexError, TypeError, ValueError) as error:
        raise BundleError(file, f"cannot be understood: {error}") from error


def _rank(feature: Feature) -> tuple[int, float, float, int]:
    """Its place in a list: of two features, the one with the smaller rank comes first."""
    effect = feature.effect.share_after - feature.effect.share_before if feature.steerable else 0.0
    return (0 if feature.steerable else 1 if feature.clear else 2), -effect, -feature.density, feature.id


def _feature(row: Row, items: Items) -> Feature:
    top_items = row["top_items"] or ()
    kind = KINDS.get(row.get("kind") or "", FEATURE_KIND_UNSPECIFIED)
    return Feature(
        id=row["feature"],
        label=row["label"] or "",
        label_confidence=row["confidence"] or 0.0,
        steerable=bool(row["steerable"]),
        density=row["density"] or 0.0,
        scale=row["scale"] or 0.0,
        association=_association(row),
        effect=_effect(row),
        top_item_ids=[items.ids[item] for item in top_items],
        top_item_titles=[items.titles[item] for item in top_items],
        kind=kind,
        # The first bundles have no descriptions; without one, confidence is 0.
        clear=kind == FEATURE_KIND_ANCHORED or bool(row.get("description", row["confidence"])),
        curve=_curve(row),
        **_pushes(row),
    )


def _concept(row: Row, items: Items) -> Concept:
    terms = zip(row["features"], row["weights"], strict=True)
    strength = row.get("strength")
    if strength is None:
        strength = max(map(abs, row["weights"]), default=0.0)
    return Concept(
        name=row["name"],
        attribute=row["attribute"] or "",
        value=row["value"] or "",
        terms=(ConceptTerm(feature_id=feature, weight=weight) for feature, weight in terms),
        effect=_effect(row),
        strength=strength,
        strength_95=row.get("strength_95") or 0.0,
        beyond_natural=strength > NATURAL_RANGE,
        curve=_curve(row),
        **_pushes(row),
    )


def _pushes(row: Row) -> dict[str, Any]:
    """Units, and what they push. Bundles older than 1.5 have neither: a control's unit is then its own."""
    units = {name: 1.0 if row.get(name) is None else row[name] for name in ("unit_up", "unit_down")}
    if wrong := [f"{name} {unit}" for name, unit in units.items() if not 0 < unit < math.inf]:
        raise ValueError(f"{wrong[0]} is no unit")
    return units | {name: row.get(name) or 0.0 for name in ("push_up", "push_down")}


def _association(row: Row) -> Association | None:
    if row["attribute"] is None:
        return None
    names = ("attribute", "value", "correlation", "roc_auc", "neuron_correlation", "neuron_roc_auc")
    return Association(**_known(row, names))


def _effect(row: Row) -> Effect | None:
    """None where nothing was measured: zeros would read as a measurement."""
    figures = _known(row, ("share_before", "share_after", "ndcg_kept"))
    return Effect(**figures) if figures else None


def _curve(row: Row) -> list[EffectPoint]:
    """By strength. Empty where it was not measured; bundles older than 1.6 have none."""
    columns = [row.get(f"curve_{name}") or () for name in ("strengths", "shares", "ndcg_kept")]
    points = list(zip(*columns, strict=True))
    if not all(math.isfinite(number) for point in points for number in point):
        raise ValueError("a point of an effect curve is no number")
    if any(a >= b for a, b in pairwise(strength for strength, _, _ in points)):
        raise ValueError("the strengths of an effect curve do not rise")
    return [EffectPoint(strength=s, share=share, ndcg_kept=kept) for s, share, kept in points]


def _known(row: Row, names: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in names if row[name] is not None}


def _fields(feature: Feature) -> tuple[str, str, str]:
    """What is searched, the most telling first."""
    titles = "\n".join(feature.top_item_titles)
    return feature.label.casefold(), feature.association.value.casefold(), titles.casefold()


def _tier(fields: Sequence[str], wanted: str, whole: re.Pattern[str]) -> int:
    """How telling the field is that has what is wanted; 0 where nothing is."""
    if not wanted:
        return 0
    return next(2 * place + (not whole.search(field)) for place, field in enumerate(fields) if wanted in field)


def _display_name(concept: Concept, *, alone: bool) -> str:
    """For people: "Horror"; with the attribute where two have the value. Of a number, what the concept brings more of."""
    attribute = "cluster" if concept.attribute == CLUSTERS else concept.attribute.replace("_", " ")
    if not concept.value:
        return NUMBERS.get(concept.attribute) or (f"Higher {attribute}" if attribute else concept.name)
    return concept.value if alone else f"{concept.value} ({attribute})"
