"""What a scenario does to lists: which shares are counted, and how far they may move from bundle to bundle.

Dimensions: H histories.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from steersman.v1.control_pb2 import AttributeRef, Control, ItemSet
from steersman.v1.scenario_service_pb2 import Scenario
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import NOWHERE, Items
from steersman_service.steering.shares import (
    Subject,
    attribute_subject,
    concept_subject,
    set_subject,
    subject_of,
)

OVERLAP = "overlap"
TOLERANCE = 0.05
"""What a mean share or overlap may move by, beside its standard error (docs/scenarios.md says why)."""
STANDARD_ERRORS = 2.0
MAX_NAME = 200


class CountedSet(NamedTuple):
    """A set of items that every bundle can find: by an attribute value, or by external ids."""

    name: str
    attribute: str = ""
    value: str = ""
    item_ids: tuple[str, ...] = ()

    def subject(self, items: Items) -> Subject:
        """Its rows; none if the bundle has none of them."""
        if self.attribute:
            found = attribute_subject(AttributeRef(name=self.attribute, value=self.value), items)
        else:
            found = set_subject(ItemSet(item_ids=self.item_ids), items)
        return found or Subject(NOWHERE)


class Interval(NamedTuple):
    """Of means over histories, from 0 to 1."""

    before: float
    least: float
    most: float
    now: float


def counted_sets(scenario: Scenario, version: str, catalogue: Catalogue, items: Items) -> list[CountedSet]:
    """Of a checked scenario: what its controls are about, what its goals and least shares count. Each once.

    `version` is the bundle's. A control on a feature of another bundle has no set of this one's items.
    """
    found: dict[tuple[str, str, tuple[str, ...]], CountedSet] = {}
    for index, control in enumerate(scenario.controls):
        for each in _of_control(control, f"controls[{index}]", version, catalogue, items):
            found.setdefault(each[1:], each)
    for index, share in enumerate(scenario.composition.least_shares):
        subject = attribute_subject(share.attribute, items) if share.HasField("attribute") else None
        for each in _named(subject, f"least_shares[{index}]", share.items.item_ids):
            found.setdefault(each[1:], each)
    return list(found.values())


def interval(before_H: Sequence[float], now_H: Sequence[float]) -> Interval:
    """The mean before, with TOLERANCE and STANDARD_ERRORS of the mean difference of a history to each side."""
    differences_H = np.subtract(now_H, before_H)
    error = differences_H.std(ddof=1) / np.sqrt(len(differences_H)) if len(differences_H) > 1 else 0.0
    before, reach = float(np.mean(before_H)), TOLERANCE + STANDARD_ERRORS * float(error)
    return Interval(before, max(0.0, before - reach), min(1.0, before + reach), float(np.mean(now_H)))


def _of_control(control: Control, path: str, version: str, catalogue: Catalogue, items: Items) -> Iterator[CountedSet]:
    if not control.HasField("feature") or control.feature.bundle_version == version:
        yield from _named(subject_of(control, catalogue, items), path, control.items.item_ids)
    if control.goal.WhichOneof("goal") == "share":
        share = control.goal.share
        subject = None
        if share.HasField("attribute"):
            subject = attribute_subject(share.attribute, items)
        elif share.HasField("concept"):
            subject = concept_subject(share.concept, catalogue, items)
        yield from _named(subject, f"{path}.goal.share", share.items.item_ids)


def _named(subject: Subject | None, path: str, item_ids: Iterable[str]) -> Iterator[CountedSet]:
    if subject is not None and subject.attribute:
        name = f"share of {subject.attribute}:{subject.value}"[:MAX_NAME]
        yield CountedSet(name, subject.attribute, subject.value)
    elif ids := tuple(item_ids):
        yield CountedSet(f"share of {path}.items", item_ids=ids)
