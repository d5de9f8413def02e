"""Keeps sessions in Redis (or Valkey): the latest events, their total count, the sticky controls, and what the user refused."""

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from redis.exceptions import RedisError

from steersman.v1.control_pb2 import Control
from steersman_service.errors import SessionUnreadable, StoreUnavailable
from steersman_service.sessions.events import DISLIKED, HIDDEN, SHOWN, Events, Kinds
from steersman_service.sessions.functions import StoreFunctions
from steersman_service.sessions.keys import id_of
from steersman_service.sessions.pipeline import NOT_WAITED, Durability, Part
from steersman_service.sessions.quotas import UNLIMITED, Limits, Quotas
from steersman_service.sessions.reasons import REASONS, StoreLog, reason_of
from steersman_service.sessions.redis_url import parse_redis_url
from steersman_service.telemetry.metrics import SessionMetrics
from steersman_service.telemetry.traces import traces

SCENARIO_OPERATIONS = (
    "put_scenario",
    "get_scenario",
    "list_scenarios",
    "name_scenarios",
    "list_measured",
    "get_measured",
    "get_histories",
    "list_changes",
    "delete_scenario",
)
LABEL_OPERATIONS = ("set_label", "get_labels")
QUOTA_OPERATIONS = ("admit_session", "count_bytes", "measure_session", "forget_session")
# Ids are remembered for this many times the events that are kept, so that an append repeated after its events were
# trimmed away still counts once. A client repeats within seconds; a session's memory has to be bounded all the same.
REMEMBERED_IDS_PER_EVENT = 2
# Items that a session remembers as disliked or hidden, together; the newest are kept.
MAX_REFUSED = 1000
OPERATIONS = (
    "append",
    "get",
    "visit",
    "set_controls",
    "delete",
    "probe",
    "expose",
    *SCENARIO_OPERATIONS,
    *LABEL_OPERATIONS,
    *QUOTA_OPERATIONS,
)
EXPOSURES = "steersman:exposure"
"""Key of the stream of exposures."""
# Of these, replicas must have what they change, where the setting says so.
WRITES = frozenset(
    ("append", "visit", "set_controls", "delete", "put_scenario", "delete_scenario", "set_label", "forget_session")
)

# Each kind calls a command that others do not, the first time.
PROBE = ([("probe", "probe"), ("probe 2", "probe"), ("probe 3", "probe")], Kinds("cdc", (0, 0, 0)))


PARTS = ("meta", "items", "ids", "controls", "otherids", "refused")
REFUSALS = (DISLIKED.encode(), HIDDEN.encode())


class StoredSession(NamedTuple):
    """A session as the store tells it."""

    appended: int
    """Events that this call has added."""
    version: int
    """Grows by one with each change."""
    total_events: int
    """Events ever appended."""
    mark: bytes
    """Of the latest change: two sessions with the same version and mark are the same. b"": unknown."""
    ttl_seconds: float
    """Time until the session is forgotten if nothing touches it."""
    item_ids: Sequence[str] = ()
    """Item ids of the latest events, oldest first."""
    controls: Sequence[bytes] = ()
    """Sticky controls, as they were given."""
    known: bool = False
    """Instead of item ids, controls and what is refused: they are those that the caller knew, and its consumed events after them."""
    refused: Sequence[str] = ()
    """DISLIKED or HIDDEN, and the item's id, of each item that is not to be recommended, newest last."""

    def refused_as(self, kind: str) -> list[str]:
        """Ids of the items that were refused last by an event of `kind`, newest last."""
        return [refused[1:] for refused in self.refused if refused[0] == kind]

    def parsed_controls(self, key: str) -> list[Control]:
        """Without unknown fields: older servers stored them, of any size. `key` is the session's. Raises SessionUnreadable."""
        try:
            parsed = [Control.FromString(control) for control in self.controls]
        except DecodeError:
            raise SessionUnreadable(id_of(key)) from None
        for control in parsed:
            control.DiscardUnknownFields()
        return parsed


class AppendResult(NamedTuple):
    appended: int
    """Events that were new."""
    duplicates: int
    """Events whose id was known already."""
    version: int
    """Of the session after the append."""
    total_events: int


class SessionStore:
    """Each operation is one call of a function of `sessions.lua`, atomic on the server.

    All keys of a session are named in the call and share a hash tag, as Redis Cluster wants it. The server must not
    evict (`maxmemory-policy noeviction`): it would take a session apart. A change renews the time to live; any other
    operation does so when a tenth of it is gone, so a read rarely writes.

    Every operation raises `StoreUnavailable` within `timeout_seconds`, and by the deadline of its request, if the store does not
    answer. It may have been applied all the same, so each of them can be repeated: a repeated append counts nothing twice.
    """

    def __init__(
        self,
        url: str,
        *,
        max_events: int,
        ttl_seconds: float,
        timeout_seconds: float,
        metrics: SessionMetrics,
        max_exposures: int = 0,
        durability: Durability = NOT_WAITED,
        limits: Limits = UNLIMITED,
    ) -> None:
        """`url` is as redis_url.py describes it; ValueError for another. Connects at the first operation.

        About `max_exposures` of the latest shown events are kept, of all sessions together.
        """
        self._functions = StoreFunctions(parse_redis_url(url), timeout_seconds, durability)
        self._waits = int(durability.replicas > 0)
        self._metrics = metrics
        metrics.declare_store(OPERATIONS, REASONS)
        metrics.watch_breakers(lambda: self._functions.open_breakers)
        self._log = StoreLog()
        self._max_events = max_events
        self._max_exposures = max_exposures
        self._ttl_ms = round(ttl_seconds * 1000)
        self._quotas = Quotas(self.call, limits, self._ttl_ms)
        # No two changes of any session have the same mark, whichever process makes them.
        self._process = os.urandom(9)
        self._changes = itertools.count()

    async def append(self, session_id: str, events: Events, kinds: Kinds | None = None) -> AppendResult:
        """Appends events, all or none. An event id counts once. Creates the session. Raises TooManySessions or TooManySessionBytes."""
        await self._quotas.admit(session_id)
        arguments = self._visited(events, kinds=kinds)
        appended, version, total, _, _, news = await self._run("append", session_id, *arguments)
        await self._quotas.count(session_id, _keys(session_id))
        self._count(appended, len(events), version)
        if kinds:
            await self._note(events, kinds, news)
        return AppendResult(appended, len(events) - appended, version, total)

    async def get(self, session_id: str) -> StoredSession | None:
        """None: there is no such session. Raises SessionUnreadable."""
        return _stored(await self._run("get", session_id, *self._visited(())), session_id)

    async def visit(
        self,
        session_id: str,
        events: Events,
        known_version: int = 0,
        known_mark: bytes = b"",
        kinds: Kinds | None = None,
    ) -> StoredSession | None:
        """Appends events, if there are any, and gets the session; None: there is none. A caller that knows the session of this version
        and mark is not sent its contents again. Raises SessionUnreadable."""
        # A store that is full refuses to append, and can still be read.
        function = "get"
        if events:
            function = "visit"
            await self._quotas.admit(session_id)
        found = await self._run(
            "visit", session_id, *self._visited(events, known_version, known_mark, kinds), function=function
        )
        if events:
            await self._quotas.count(session_id, _keys(session_id))
        session = _stored(found, session_id)
        if session:
            self._count(session.appended, len(events), session.version)
            if kinds:
                await self._note(events, kinds, found[5])
        return session

    async def set_controls(self, session_id: str, controls: Sequence[bytes]) -> int:
        """Replaces the sticky controls; returns the session's version. Creates the session."""
        await self._quotas.admit(session_id)
        arguments: list[Part] = [self._ttl_ms, self._mark(), self._waits, *controls]
        version, created = await self._run("set_controls", session_id, *arguments)
        await self._quotas.count(session_id, _keys(session_id))
        if created:
            self._metrics.session_created()
        return int(version)

    async def delete(self, session_id: str) -> bool:
        """Erases the session from the store; whether there was one."""
        existed = bool(await self._run("delete", session_id, self._waits))
        await self._quotas.forget(session_id)
        if existed:
            self._metrics.session_deleted()
        return existed

    async def usable(self) -> bool:
        """Whether sessions can be read and changed now. The log has why not."""
        arguments = self._visited(PROBE[0], kinds=PROBE[1], waits=0)

        async def probe() -> None:
            ids = await self._functions.probes()
            await asyncio.gather(
                *(self._functions.call("probe", _keys(session_id), arguments, probing=True) for session_id in ids)
            )

        try:
            await self._timed("probe", probe())
        except StoreUnavailable as error:
            self._log.probed(reason_of(error.__cause__ or error))
            return False
        self._log.probed("")
        return True

    async def close(self) -> None:
        """Waits for the calls under way (they are bounded in time), then closes the connections."""
        await self._functions.close()

    async def call(self, operation: str, keys: Sequence[str], arguments: Sequence[Part]) -> Any:
        """A function of the library, on other keys than a session's. Raises StoreUnavailable."""
        call = self._functions.call(operation, keys, arguments, writes=operation in WRITES)
        return await self._timed(operation, call)

    def _visited(
        self,
        events: Events,
        known_version: int = 0,
        known_mark: bytes = b"",
        kinds: Kinds | None = None,
        waits: int | None = None,
    ) -> list[Part]:
        """Arguments of append and visit."""
        waits = self._waits if waits is None else waits
        # An append larger than the memory is remembered whole until the next one: repeating it at once stays harmless.
        remembered = max(REMEMBERED_IDS_PER_EVENT * self._max_events, len(events))
        limits = (self._ttl_ms, self._mark(), self._max_events, remembered, MAX_REFUSED)
        letters = kinds.letters if kinds else ""
        return [*limits, known_version, known_mark, waits, letters, *itertools.chain.from_iterable(events)]

    def _mark(self) -> bytes:
        return self._process + next(self._changes).to_bytes(7)

    def _count(self, appended: int, events: int, version: int) -> None:
        self._metrics.session_events(appended=appended, duplicates=events - appended)
        if appended and version == 1:
            self._metrics.session_created()

    async def _note(self, events: Events, kinds: Kinds, news: bytes) -> None:
        """Counts new events of other kinds than consumed, and writes those that were shown to the stream, where there is one: a write that
        fails is counted, and the event is acknowledged all the same."""
        new = [place for place, is_new in enumerate(news.decode()) if is_new == "1"]
        self._metrics.feedback(kinds.letters[place] for place in new)
        shown = [place for place in new if kinds.letters[place] == SHOWN]
        if not (shown and self._max_exposures):
            return
        now_ms = round(1000 * time.time())
        exposures = [part for place in shown for part in (events[place][1], kinds.times_ms[place] or now_ms)]
        with suppress(StoreUnavailable):
            await self.call("expose", [EXPOSURES], [self._max_exposures, *exposures])

    async def _run(self, operation: str, session_id: str, *arguments: Part, function: str = "") -> Any:
        function = function or operation
        call = self._functions.call(function, _keys(session_id), arguments, writes=function in WRITES)
        try:
            return await self._timed(operation, call)
        except StoreUnavailable as error:
            raise _of_session(error, session_id) from error.__cause__

    async def _timed(self, operation: str, call: Awaitable[Any]) -> Any:
        start = time.perf_counter()
        try:
            with traces().asking("redis", operation):
                return await call
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            reason = reason_of(error)
            self._metrics.redis_failed(operation, reason)
            self._log.failed(reason)
            raise StoreUnavailable from error
        finally:
            self._metrics.redis(operation, time.perf_counter() - start)


def _keys(session_id: str) -> list[str]:
    prefix = f"steersman:{{{session_id}}}:"
    return [prefix + part for part in PARTS]


def _of_session(error: StoreUnavailable, key: str) -> StoreUnavailable:
    """What the failure of a call is where it is of its session alone."""
    match reason_of(error.__cause__ or error):
        case "WRONGTYPE" | "MALFORMED":
            return SessionUnreadable(id_of(key))
        case "NEWERSCHEMA":
            why = "was written by a later version of the server, which has to be asked for it"
            return StoreUnavailable(f"session_id: session {id_of(key)!r} {why}")
    return error


def _stored(reply: list[Any] | None, key: str) -> StoredSession | None:
    """Raises SessionUnreadable."""
    if reply is None:
        return None
    appended, version, total, mark, ttl_ms, _, *contents = reply
    told = StoredSession(appended, version, total, mark, ttl_ms / 1000, known=not contents)
    if not contents:
        return told
    item_ids, controls, refused = contents
    if len(item_ids) > total:
        raise SessionUnreadable(id_of(key))
    return told._replace(
        # An id that is no text is that of no item.
        item_ids=[item_id.decode(errors="replace") for item_id in item_ids],
        controls=controls,
        refused=[item.decode(errors="replace") for item in refused if item[:1] in REFUSALS],
    )
