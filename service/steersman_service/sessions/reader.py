"""Reads sessions through a cache: the contents of one that has only grown by the caller's own events are not sent again."""

import asyncio
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from steersman.v1.control_pb2 import Control
from steersman_service.bundle.items import NOWHERE, Items, Rows
from steersman_service.sessions.events import CONSUMED, Events, Kinds
from steersman_service.sessions.store import SessionStore, StoredSession

# What an entry takes beside its places and the bytes of its controls. tests/service/sessions/test_session_reader.py holds it.
ENTRY_BYTES = 1024
# Of a control, beside its bytes.
CONTROL_BYTES = 256
# What is not read for so long is dropped, within twice that, so that nothing of an erased session stays.
IDLE_SECONDS = 300.0


class Session(NamedTuple):
    """A session as a recommendation needs it."""

    version: int
    total_events: int
    places: Rows
    """Rows of the latest events' items, oldest first, or UNKNOWN."""
    controls: Sequence[Control]
    """Sticky ones."""
    mark: bytes
    """Of the latest change."""
    size: int
    """Bytes in the cache."""
    created: bool = False
    """Whether this visit created it."""
    refused: Rows = NOWHERE
    """Rows of the known items that were disliked or hidden, newest last."""
    used: float = 0.0
    """When it was read last, in seconds of `time.monotonic()`."""


class SessionReader:
    """Caches the sessions that were read last, as rows of one bundle's items.

    A cached session is used only if the store confirms that it is current, whatever changes sessions: another replica,
    one of an older version, or a store that was restored from an older copy of its data.
    """

    held_bytes: int
    """Memory that the entries take."""

    def __init__(
        self,
        store: SessionStore,
        items: Items,
        *,
        max_events: int,
        limit_bytes: int,
        observe: Callable[[bool], None] = lambda hit: None,
    ) -> None:
        """`max_events` are kept of a session, as the store does. `observe` is called with whether a session that was read was cached."""
        self._store = store
        self._items = items
        self._max_events = max_events
        self._limit_bytes = limit_bytes
        self._observe = observe
        self.held_bytes = 0
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._sweeps = False

    async def visit(self, key: str, events: Events, kinds: Kinds | None = None) -> Session | None:
        """Appends events, if there are any, and reads. `key`: see keys.py. None: there is no such session. Raises StoreUnavailable."""
        known = self._sessions.get(key)
        version, mark = (known.version, known.mark) if known else (0, b"")
        stored = await self._store.visit(key, events, version, mark, kinds)
        session = self._read(key, stored, known, events, kinds) if stored else None
        self._remember(key, session)
        if stored:
            self._observe(stored.known)
        return session

    def _read(
        self, key: str, stored: StoredSession, known: Session | None, events: Events, kinds: Kinds | None
    ) -> Session:
        if stored.known:
            assert known is not None, "the store confirms only what was named"
            places, controls, refused = known.places, known.controls, known.refused
            if events:
                consumed = kinds.items(events, CONSUMED) if kinds else (item_id for _, item_id in events)
                new = self._items.places(consumed)
                places = np.concatenate([places, new])[-self._max_events :]
        else:
            places = self._items.places(stored.item_ids)
            controls = stored.parsed_controls(key)
            refused = self._items.rows(item[1:] for item in stored.refused) if stored.refused else NOWHERE
        size = (
            ENTRY_BYTES
            + places.nbytes
            + refused.nbytes
            + sum(CONTROL_BYTES + control.ByteSize() for control in controls)
        )
        created = stored.appended > 0 and stored.version == 1
        return Session(stored.version, stored.total_events, places, controls, stored.mark, size, created, refused)

    def _remember(self, key: str, session: Session | None) -> None:
        old = self._sessions.pop(key, None)
        self.held_bytes -= old.size if old else 0
        if session is None or not session.mark or session.size > self._limit_bytes:
            return
        self._sessions[key] = session._replace(created=False, used=time.monotonic())
        self.held_bytes += session.size
        while self.held_bytes > self._limit_bytes:
            self._forget_oldest()
        if not self._sweeps:
            self._sweep_later()

    def _forget_oldest(self) -> None:
        _, oldest = self._sessions.popitem(last=False)
        self.held_bytes -= oldest.size

    def _sweep_later(self) -> None:
        """Does not keep this reader, or the bundle whose items it knows."""
        self._sweeps = bool(self._sessions)
        if self._sweeps:
            asyncio.get_running_loop().call_later(IDLE_SECONDS, _forget_idle, weakref.ref(self))

    def forget_idle(self) -> None:
        """Whether or not there are calls."""
        since = time.monotonic() - IDLE_SECONDS
        while self._sessions and next(iter(self._sessions.values())).used <= since:
            self._forget_oldest()
        self._sweep_later()


def _forget_idle(reader: "weakref.ref[SessionReader]") -> None:
    if (living := reader()) is not None:
        living.forget_idle()
