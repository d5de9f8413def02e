"""What scenarios did to lists when they were put, as it is kept beside them.

Dimensions: H histories.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

Histories = list[list[str]]
"""External ids of items, oldest first."""


class KeptEffect(msgspec.Struct, frozen=True):
    """One effect, on each history: the overlap with the plain list, or the share of the list that is in a set of items."""

    name: str
    values_H: list[float]
    """From 0 to 1."""
    attribute: str = ""
    value: str = ""
    item_ids: tuple[str, ...] = ()
    """The set: items with a value of an attribute, or these. Neither: it is the overlap."""


class Measurement(msgspec.Struct, frozen=True):
    """All effects of one version of a scenario."""

    scenario_version: int
    source: str
    """Of the histories: version of the bundle under which it was put, a space, digest."""
    effects: list[KeptEffect]

    @property
    def bundle_version(self) -> str:
        return self.source.partition(" ")[0]


class Measured(NamedTuple):
    """What is to be kept with a scenario."""

    bundle_version: str
    histories: Histories
    effects: Sequence[KeptEffect]

    def encoded(self, scenario_version: int) -> tuple[bytes, str, bytes]:
        """Measurement, source and histories."""
        histories = msgspec.msgpack.encode(self.histories)
        # Scenarios that were put under one bundle share its histories. Servers of another version may choose others.
        source = f"{self.bundle_version} {hashlib.sha256(histories).hexdigest()[:16]}"
        measurement = Measurement(scenario_version, source, list(self.effects))
        return msgspec.msgpack.encode(measurement), source, histories


def decoded(data: bytes) -> Measurement | None:
    """None: a later version has written it in another way."""
    try:
        return msgspec.msgpack.decode(data, type=Measurement)
    except msgspec.MsgspecError:
        return None


def decoded_histories(data: bytes) -> Histories:
    return msgspec.msgpack.decode(data, type=Histories)
