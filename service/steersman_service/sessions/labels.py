"""Keeps labels that people corrected in the session store, without expiry."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from google.protobuf.message import DecodeError

from steersman.v1.feature_service_pb2 import Feature
from steersman_service.errors import TooManyLabels
from steersman_service.sessions.pipeline import Part
from steersman_service.sessions.store import SessionStore

MAX_LABELS = 1000
# No session has an id with a slash. One hash tag: both are on one node of a cluster.
KEYS = tuple(f"steersman:{{/labels}}:{part}" for part in ("documents", "changes"))


class Corrected(NamedTuple):
    """The feature that a correction was made on."""

    version: str
    """Of its bundle."""
    feature: int

    @property
    def field(self) -> str:
        return f"{self.version}:{self.feature}"


class KeptLabels(NamedTuple):
    changes: str
    """Tells this state from others."""
    corrections: Mapping[Corrected, Feature]
    """`label` is the corrected one, and `correction` says by whom."""


class LabelStore:
    """Each operation is one call of a function of `labels.lua`, atomic on the server, and raises StoreUnavailable."""

    def __init__(self, store: SessionStore) -> None:
        self._store = store

    async def read(self, seen: str) -> KeptLabels | None:
        """None: `seen` is how they stand."""
        found = await self._store.call("get_labels", KEYS, [seen])
        if found is None:
            return None
        corrections = {}
        for field, document in _pairs(found[1]):
            # A later server may keep what this one does not know.
            with suppress(DecodeError, ValueError):
                version, _, feature = field.decode().rpartition(":")
                correction = Feature.FromString(document)
                correction.correction.time.ToNanoseconds()  # a ValueError for what is no time
                corrections[Corrected(version, int(feature))] = correction
        return KeptLabels(found[0].decode(errors="replace"), corrections)

    async def put(self, corrected: Corrected, correction: Feature) -> None:
        """Raises TooManyLabels."""
        arguments: list[Part] = [corrected.field, correction.SerializeToString(), MAX_LABELS]
        if await self._store.call("set_label", KEYS, arguments) == -1:
            raise TooManyLabels(MAX_LABELS)

    async def remove(self, corrected: Corrected, others: Sequence[Corrected]) -> None:
        await self._store.call("set_label", KEYS, [corrected.field, "", MAX_LABELS, *(other.field for other in others)])


def _pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))
