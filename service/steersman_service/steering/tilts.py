"""Tilts: what controls on attributes add to the scores of items. Exact, whatever the recommender: an odds ratio, in nats."""

from collections.abc import Iterator, Sequence

import numpy as np

from steersman.v1.control_pb2 import AttributeRef, Control
from steersman_service.bundle.bundle import Array
from steersman_service.bundle.items import Items
from steersman_service.checks import did_you_mean
from steersman_service.errors import Violation


def check_attribute(path: str, attribute: AttributeRef, items: Items) -> Iterator[Violation]:
    """What is wrong with a tilt by `attribute`."""
    column = items.attributes.get(attribute.name)
    if column is None:
        yield Violation(f"{path}.name", unknown_attribute(attribute.name, items))
    elif why := column.why_no_tilt(attribute.value):
        yield Violation(f"{path}.value", why)


def unknown_attribute(name: str, items: Items) -> str:
    """That there is no attribute `name`, and which one may be meant."""
    known = f"known: {', '.join(items.attributes) or 'none'}"
    return f"unknown attribute {name[:50]!r}; {did_you_mean(name, items.attributes, known)}"


def tilts(controls: Sequence[Control], items: Items) -> Array | None:
    """The sum of strength * lean over checked `controls` on attributes. (N), float32; None if there are none.

    Lean is 1 for an item with the value and 0 for one without; of a number, its standard score.
    """
    if not controls:
        return None
    # In double precision, so that the order of the controls does not matter.
    tilts_N = np.zeros(len(items))
    for control in controls:
        items.attributes[control.attribute.name].tilt(tilts_N, control.attribute.value, control.strength)
    return tilts_N.astype(np.float32)
