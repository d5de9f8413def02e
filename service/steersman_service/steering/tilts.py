"""Tilts: what controls on attributes add to the scores of items. Exact, whatever the recommender: an odds ratio, in nats."""

from collections.abc import Sequence

import numpy as np

from steersman.v1.control_pb2 import Control
from steersman_service.bundle.bundle import Array
from steersman_service.bundle.items import Items


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
