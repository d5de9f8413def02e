"""The catalogue: features and concepts as callers see them, built once when a bundle is loaded."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from steersman.v1.feature_service_pb2 import Association, Concept, ConceptTerm, Effect, Feature
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from steersman_service.errors import BundleError

Row = Mapping[str, Any]


class Catalogue:
    """Feature f is row f, concept c is row c."""

    def __init__(self, bundle: Bundle, items: Items) -> None:
        self.features: list[Feature] = _rows("features.parquet", bundle.features, items, _feature)
        self.concepts: list[Concept] = _rows("concepts.parquet", bundle.concepts, items, _concept)
        if any(row != feature.id for row, feature in enumerate(self.features)):
            raise BundleError("features.parquet", "row f is not feature f")
        self.labels = [feature.label for feature in self.features]
        self.concept_rows = {concept.name: row for row, concept in enumerate(self.concepts)}
        self._texts = [_text(feature) for feature in self.features]

    def search_features(self, text: str, steerable_only: bool) -> list[Feature]:
        """Features whose label, attribute value or top titles contain `text`, in any case."""
        wanted = text.casefold()
        return [
            feature
            for feature, searched in zip(self.features, self._texts, strict=True)
            if wanted in searched and (feature.steerable or not steerable_only)
        ]

    def search_concepts(self, text: str) -> list[Concept]:
        """Concepts whose name contains `text`, in any case."""
        return [concept for concept in self.concepts if text.casefold() in concept.name.casefold()]


def _rows(file: str, table: pa.Table, items: Items, build: Any) -> list[Any]:
    try:
        return [build(row, items) for row in table.to_pylist()]
    except KeyError as error:
        raise BundleError(file, f"has no column {error}") from None
    except (IndexError, TypeError, ValueError) as error:
        raise BundleError(file, f"cannot be understood: {error}") from error


def _feature(row: Row, items: Items) -> Feature:
    top_items = row["top_items"] or ()
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
    )


def _concept(row: Row, items: Items) -> Concept:
    terms = zip(row["features"], row["weights"], strict=True)
    return Concept(
        name=row["name"],
        attribute=row["attribute"] or "",
        value=row["value"] or "",
        terms=(ConceptTerm(feature_id=feature, weight=weight) for feature, weight in terms),
        effect=_effect(row),
    )


def _association(row: Row) -> Association | None:
    if row["attribute"] is None:
        return None
    names = ("attribute", "value", "correlation", "roc_auc", "neuron_correlation", "neuron_roc_auc")
    return Association(**_known(row, names))


def _effect(row: Row) -> Effect | None:
    """None where nothing was measured: zeros would read as a measurement."""
    figures = _known(row, ("share_before", "share_after", "ndcg_kept"))
    return Effect(**figures) if figures else None


def _known(row: Row, names: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in names if row[name] is not None}


def _text(feature: Feature) -> str:
    return "\n".join((feature.label, feature.association.value, *feature.top_item_titles)).casefold()
