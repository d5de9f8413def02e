"""What a control is about: a set of items, whose share of a list can be counted.

Dimensions: R rows of the set, K top-k.
"""

from typing import NamedTuple

import numpy as np

from steersman.v1.control_pb2 import AttributeRef, Control, ItemSet
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import NOWHERE, Categories, Items, Rows


class Subject(NamedTuple):
    """Some of the items."""

    rows_R: Rows
    """In ascending order."""
    attribute: str = ""
    value: str = ""
    """What they have in common; empty for a set of items."""

    def share(self, rows_K: Rows) -> float:
        """Of a list; 0 of an empty one."""
        if not len(rows_K) or not len(self.rows_R):
            return 0.0
        places_K = np.minimum(np.searchsorted(self.rows_R, rows_K), len(self.rows_R) - 1)
        return float((self.rows_R[places_K] == rows_K).mean())


def subject_of(control: Control, catalogue: Catalogue, items: Items) -> Subject | None:
    """What a checked control is about. None: no set of items, as a numeric attribute, words, or a feature without a clear value."""
    target = control.WhichOneof("target")
    if target == "attribute":
        return attribute_subject(control.attribute, items)
    if target == "concept":
        return concept_subject(control.concept, catalogue, items)
    if target == "items":
        return set_subject(control.items, items)
    if target == "feature" and control.feature.id < len(catalogue.features):
        feature = catalogue.features[control.feature.id]
        if feature.clear and feature.HasField("association"):
            return _having(feature.association.attribute, feature.association.value, items)
    return None


def attribute_subject(attribute: AttributeRef, items: Items) -> Subject | None:
    """None for a numeric attribute, and for what no item has."""
    return _having(attribute.name, attribute.value, items)


def concept_subject(name: str, catalogue: Catalogue, items: Items) -> Subject | None:
    """None for a concept of a number, and for an unknown one."""
    row = catalogue.concept_rows.get(name)
    if row is None:
        return None
    concept = catalogue.concepts[row]
    return _having(concept.attribute, concept.value, items)


def set_subject(item_set: ItemSet, items: Items) -> Subject | None:
    """None if the bundle knows none of them."""
    rows_R = np.unique(items.rows(item_set.item_ids))
    return Subject(rows_R) if len(rows_R) else None


def overlap(plain_K: Rows, rows_K: Rows) -> float:
    """Share of the plain list's items that are in a list; 1 for an empty plain list."""
    return float(np.isin(plain_K, rows_K).mean()) if len(plain_K) else 1.0


def _having(attribute: str, value: str, items: Items) -> Subject | None:
    column = items.attributes.get(attribute)
    if not isinstance(column, Categories):
        return None
    rows_R = column.rows_of.get(value, NOWHERE)
    return Subject(rows_R, attribute, value) if len(rows_R) else None
