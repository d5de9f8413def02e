"""What features and concepts have to do with items and with each other, by what they add to scores.

Dimensions: F features, C concepts, R both: all concepts, then all features.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from steersman.v1.feature_service_pb2 import Feature, Neighbour
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import Items
from steersman_service.steering.aims import TINY, Aims, Doubles

LEAST_LIFT = 0.5
"""Standard deviations over items by which a feature that fires on items raises them."""
LEAST_LIKENESS = 0.1
"""Below it, in magnitude, two controls have nothing to do with each other."""


class Neighbours:
    def __init__(self, aims: Aims, catalogue: Catalogue, items: Items) -> None:
        self._aims, self._catalogue, self._items = aims, catalogue, items
        self.why_not = aims.why_not
        """Why it cannot be told what features add to scores. Empty: it can."""

    def firing(self, features: Sequence[Feature], item_ids: Sequence[str]) -> list[Feature]:
        """Those of `features` that fire on items, the one that raises them most first. Where that cannot be told: that have one of
        them among their top items, the one with most of them first."""
        if self.why_not:
            wanted = set(item_ids)
            held = [(len(wanted.intersection(feature.top_item_ids)), feature) for feature in features]
            return [feature for count, feature in sorted(held, key=lambda each: -each[0]) if count]
        lift_F = self._aims.standard_lift(np.unique(self._items.rows(item_ids)))
        found = [feature for feature in features if lift_F[feature.id] >= LEAST_LIFT]
        return sorted(found, key=lambda feature: -lift_F[feature.id])

    def of_feature(self, feature: int, size: int) -> tuple[list[Neighbour], list[Neighbour]]:
        """The features and concepts most alike, and those most opposed, at most `size` of each."""
        return self._ranked(len(self._catalogue.concepts) + feature, size)

    def of_concept(self, concept: int, size: int) -> tuple[list[Neighbour], list[Neighbour]]:
        """The same of a concept."""
        return self._ranked(concept, size)

    def _ranked(self, row: int, size: int) -> tuple[list[Neighbour], list[Neighbour]]:
        likeness_R = self._likeness(row)
        likeness_R[row] = 0.0
        order = np.argsort(-likeness_R, kind="stable")
        alike = [
            self._neighbour(other, likeness_R[other]) for other in order[:size] if likeness_R[other] >= LEAST_LIKENESS
        ]
        opposed = order[::-1][:size]
        return alike, [
            self._neighbour(other, likeness_R[other]) for other in opposed if likeness_R[other] <= -LEAST_LIKENESS
        ]

    def _likeness(self, row: int) -> Doubles:
        """Correlation over items of what this control and each other one add to scores; 0 where one adds nothing. (R,)"""
        covariance_R = self._added_RF @ (self._aims.covariance_FF @ self._added_RF[row])
        scale_R = self._spread_R * self._spread_R[row]
        return np.where(scale_R > TINY, covariance_R / np.maximum(scale_R, TINY), 0.0).clip(-1, 1)

    def _neighbour(self, row: int, likeness: float) -> Neighbour:
        concepts = self._catalogue.concepts
        if row < len(concepts):
            return Neighbour(concept=concepts[row].name, label=concepts[row].display_name, likeness=likeness)
        feature = int(row) - len(concepts)
        return Neighbour(feature_id=feature, label=self._catalogue.labels[feature], likeness=likeness)

    @cached_property
    def _added_RF(self) -> Doubles:
        """What each control edits at strength 1."""
        concepts, count = self._catalogue.concepts, len(self._catalogue.features)
        concepts_CF = np.zeros((len(concepts), count))
        for row, concept in enumerate(concepts):
            for term in concept.terms:
                concepts_CF[row, term.feature_id] += term.weight
        return np.concatenate([concepts_CF, np.eye(count)])

    @cached_property
    def _spread_R(self) -> Doubles:
        """Standard deviation over items of what each adds."""
        spread_R: Doubles = np.sqrt(((self._added_RF @ self._aims.covariance_FF) * self._added_RF).sum(1).clip(0))
        return spread_R
