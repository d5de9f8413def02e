"""Reads sessions, and remembers those that were read: of one that has only grown by what the caller brings, nothing is sent again."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from steersman.v1.control_pb2 import Control
from steersman_service.bundle.items import Items, Rows
from steersman_service.checks import kept_control
from steersman_service.errors import StoreUnavailable
from steersman_service.sessions.store import NOTHING_KNOWN, SessionStore, Visit

# What an entry takes beside its places and the bytes of its controls. tests/service/sessions/test_session_reader.py holds it.
ENTRY_BYTES = 1024
# Of a control, beside its bytes.
CONTROL_BYTES = 256


class Session(NamedTuple):
    """A session, as a recommendation needs it."""

    version: int
    total_events: int
    places: Rows
    """Rows of the latest events' items, oldest first, or UNKNOWN."""
    controls: Sequence[Control]
    """Sticky ones."""
    mark: bytes
    history: bytes
    """The mark of the latest append."""
    size: int
    """Memory that it takes."""
    state: bytes = b""
    """The hidden state after the latest event, where it came with the session. It is not remembered here."""
    created: bool = False
    """Whether that was by this visit."""


class SessionReader:
    """Sessions that were read last, as many as fit. One bundle's: places are rows of its items.

    What is remembered is used only if the store says that it is still what is there, whoever else changes sessions: another replica,
    one of an older version, or a store that came back from an older copy of its data.
    """

    held_bytes: int
    """What the entries take."""

    def __init__(
        self,
        store: SessionStore,
        items: Items,
        *,
        max_events: int,
        limit_bytes: int,
        bundle: str = "",
        observe: Callable[[bool], None] = lambda hit: None,
    ) -> None:
        """`max_events` are kept of a session, as the store does. Hidden states of `bundle` are kept beside sessions; none if it is empty.
        `observe` is told whether a session that was read was remembered."""
        self._store = store
        self._items = items
        self._max_events = max_events
        self._limit_bytes = limit_bytes
        self._bundle = bundle
        self._observe = observe
        self._keeping: set[asyncio.Task[None]] = set()
        self.held_bytes = 0
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    async def visit(self, session_id: str, events: Sequence[tuple[str, str]]) -> Session | None:
        """Appends (event id, item id) pairs, if there are any, and reads. None: there is no such session. Raises StoreUnavailable."""
        known = self._sessions.get(session_id)
        version, mark = (known.version, known.mark) if known else (0, NOTHING_KNOWN)
        visit = await self._store.visit(session_id, events, version, mark, self._bundle)
        session = self._read(visit, known, events) if visit else None
        self._remember(session_id, session)
        if session:
            self._observe(visit is not None and visit.contents is None)
        return session

    def keep_state(self, session_id: str, session: Session, state: bytes) -> None:
        """Keeps the hidden state beside the session, for other replicas. Nobody waits for it, and if it fails, nothing is lost."""
        if self._bundle and session.history:
            task = asyncio.create_task(self._keep(session_id, session, state))
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)

    async def close(self) -> None:
        """Waits for what is being kept: it is bounded in time."""
        await asyncio.gather(*self._keeping)

    async def _keep(self, session_id: str, session: Session, state: bytes) -> None:
        with suppress(StoreUnavailable):
            await self._store.keep_state(session_id, session.total_events, session.history, self._bundle, state)

    def _read(self, visit: Visit, known: Session | None, events: Sequence[tuple[str, str]]) -> Session:
        if visit.contents is None:
            assert known is not None, "the store knows what this process has never read"
            places, controls, state = known.places, known.controls, b""
            history = visit.mark if events else known.history
            if events:
                new = self._items.places(item_id for _, item_id in events)
                places = np.concatenate([places, new])[-self._max_events :]
        else:
            item_ids, given, history, state = visit.contents
            places = self._items.places(item_id.decode() for item_id in item_ids)
            controls = [kept_control(control) for control in given]
        size = ENTRY_BYTES + places.nbytes + sum(CONTROL_BYTES + control.ByteSize() for control in controls)
        created = visit.appended > 0 and visit.version == 1
        return Session(visit.version, visit.total_events, places, controls, visit.mark, history, size, state, created)

    def _remember(self, session_id: str, session: Session | None) -> None:
        old = self._sessions.pop(session_id, None)
        self.held_bytes -= old.size if old else 0
        if session is None or not session.mark or session.size > self._limit_bytes:
            return
        self._sessions[session_id] = session._replace(state=b"", created=False)
        self.held_bytes += session.size
        while self.held_bytes > self._limit_bytes:
            _, oldest = self._sessions.popitem(last=False)
            self.held_bytes -= oldest.size
