"""Keeps sessions in Redis (or Valkey): the latest events, their total count and the sticky controls."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from steersman_service.errors import StoreUnavailable
from steersman_service.sessions.courier import RedisCourier
from steersman_service.sessions.reasons import StoreLog
from steersman_service.sessions.redis_reason import reason_of
from steersman_service.telemetry.metrics import Metrics

# Ids are remembered for this many times the events that are kept, so that an append repeated after its events were
# trimmed away still counts once. A client repeats within seconds; a session's memory has to be bounded all the same.
REMEMBERED_IDS_PER_EVENT = 2
NOTHING_KNOWN = b""
# No session has such an id. Several, so that they do not all lie in the slots that one node of a cluster has.
PROBED_IDS = tuple(f"/probe/{number}" for number in range(8))


class SessionState(NamedTuple):
    """What is known of a session."""

    version: int
    """Grows by one with each change."""
    total_events: int
    """Events ever appended."""
    item_ids: list[str]
    """Item ids of the latest events, oldest first."""
    controls: list[bytes]
    """Sticky controls, as they were given."""
    ttl_seconds: float
    """Time until the session is forgotten if nothing touches it."""


class Contents(NamedTuple):
    """What is in a session."""

    item_ids: list[bytes]
    """Of the latest events, oldest first."""
    controls: list[bytes]
    """Sticky ones."""
    history: bytes
    """The mark of the latest append."""
    state: bytes
    """The hidden state after the latest event, if one was kept with the bundle that was asked for."""


class Visit(NamedTuple):
    """What a session is after a visit."""

    appended: int
    """Events that were new."""
    version: int
    total_events: int
    mark: bytes
    """Of the latest change of all: two sessions with the same version and mark are the same. Empty if there is none."""
    contents: Contents | None
    """None: what the caller knew, then its events, all of them new."""


class AppendOutcome(NamedTuple):
    """What an append did."""

    appended: int
    """Events that were new."""
    duplicates: int
    """Events whose id was known already."""
    version: int
    """Version of the session after the append."""
    total_events: int
    """Events ever appended."""


class SessionStore:
    """Each operation is one run of `sessions.lua`, atomic on the server, and refreshes the time to live.

    All keys of a session are named in the call and share a hash tag, as Redis Cluster wants it. The server must not
    evict (`maxmemory-policy noeviction`): it would take a session apart.

    Every operation raises `StoreUnavailable` within `timeout_seconds` if the store does not answer. It may have been
    applied all the same, so each of them can be repeated: a repeated append counts nothing twice.
    """

    def __init__(
        self, client: Redis, *, max_events: int, ttl_seconds: float, timeout_seconds: float, metrics: Metrics
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._log = StoreLog()
        script = files(__package__).joinpath("sessions.lua").read_text("utf-8")
        self._courier = RedisCourier(client.connection_pool, script, timeout_seconds)
        self._max_events = max_events
        self._ttl_seconds = ttl_seconds
        # No two changes of any session have the same mark, whichever process makes them.
        self._process = os.urandom(9)
        self._changes = itertools.count()

    @classmethod
    def connect(
        cls, url: str, *, max_events: int, ttl_seconds: float, timeout_seconds: float, metrics: Metrics
    ) -> SessionStore:
        """Makes a store for `redis://`, `rediss://` or `unix://`. No connection is made before the first operation.

        Raises ValueError for another kind of URL.
        """
        client = Redis.from_url(
            url,
            # Calls are bounded as a whole: a limit for every reply would cost as much as the reply.
            socket_timeout=None,
            socket_connect_timeout=timeout_seconds,
            # A pooled connection may have gone stale since its last use: one more attempt, at once, on a new one.
            retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),
        )
        return cls(
            client,
            max_events=max_events,
            ttl_seconds=ttl_seconds,
            timeout_seconds=timeout_seconds,
            metrics=metrics,
        )

    async def append(self, session_id: str, events: Sequence[tuple[str, str]]) -> AppendOutcome:
        """Appends (event id, item id) pairs, oldest first, all or none. An id counts once. Creates the session."""
        appended, version, total = await self._run("append", session_id, *self._appended(events))
        self._count(appended, len(events), version)
        return AppendOutcome(appended, len(events) - appended, version, total)

    async def get(self, session_id: str) -> SessionState | None:
        """The session, or None if there is no such session."""
        found = await self._run("get", session_id)
        if found is None:
            return None
        version, total, item_ids, controls = found
        return SessionState(version, total, [item.decode() for item in item_ids], controls, self._ttl_seconds)

    async def visit(
        self,
        session_id: str,
        events: Sequence[tuple[str, str]],
        known_version: int = 0,
        known_mark: bytes = NOTHING_KNOWN,
        bundle: str = "",
    ) -> Visit | None:
        """`append` and `get` in one: what the session is after `events`, of which there may be none.

        Whoever knows the session that has this version and mark is not told again what was in it. None: there is no such
        session, and no events to begin one.
        """
        found = await self._run("visit", session_id, known_version, known_mark, bundle, *self._appended(events))
        if found is None:
            return None
        appended, version, total, mark, *contents = found
        self._count(appended, len(events), version)
        return Visit(appended, version, total, mark, Contents(*contents) if contents else None)

    async def keep_state(self, session_id: str, total_events: int, history: bytes, bundle: str, state: bytes) -> None:
        """Keeps the hidden state after the session's latest event, unless there are newer ones by now."""
        await self._run("keep_state", session_id, total_events, history, bundle, state)

    async def set_controls(self, session_id: str, controls: Sequence[bytes]) -> int:
        """Replaces the sticky controls; gives the session's version. Creates the session."""
        version, created = await self._run("set_controls", session_id, self._mark(), *controls)
        if created:
            self._metrics.session_created()
        return int(version)

    async def delete(self, session_id: str) -> bool:
        """Forgets the session; whether there was one."""
        existed = bool(await self._run("delete", session_id))
        if existed:
            self._metrics.session_deleted()
        return existed

    async def usable(self) -> bool:
        """Whether sessions can be read and changed now. The log has why not."""
        probes = (self._courier.run(*self._command("probe", session_id)) for session_id in PROBED_IDS)
        try:
            await self._timed("probe", asyncio.gather(*probes))
        except StoreUnavailable as error:
            self._log.probed(reason_of(error.__cause__ or error))
            return False
        self._log.probed("")
        return True

    async def close(self) -> None:
        """Waits for the calls under way (they are bounded in time), then closes the connections."""
        await self._courier.close()
        await self._client.aclose()

    def _appended(self, events: Sequence[tuple[str, str]]) -> list[str | int | bytes]:
        # An append larger than the memory is remembered whole until the next one: repeating it at once stays harmless.
        remembered = max(REMEMBERED_IDS_PER_EVENT * self._max_events, len(events))
        return [self._max_events, remembered, self._mark(), *itertools.chain.from_iterable(events)]

    def _mark(self) -> bytes:
        return self._process + next(self._changes).to_bytes(7)

    def _count(self, appended: int, events: int, version: int) -> None:
        self._metrics.session_events(appended=appended, duplicates=events - appended)
        if appended and version == 1:
            self._metrics.session_created()

    async def _run(self, operation: str, session_id: str, *arguments: str | int | bytes) -> Any:
        return await self._timed(operation, self._courier.run(*self._command(operation, session_id, *arguments)))

    def _command(self, operation: str, session_id: str, *arguments: str | int | bytes) -> tuple[list[str], list[Any]]:
        """Keys and arguments of the script."""
        keys = [f"steersman:{{{session_id}}}:{part}" for part in ("meta", "items", "ids", "controls")]
        return keys, [operation, round(self._ttl_seconds * 1000), *arguments]

    async def _timed(self, operation: str, call: Awaitable[Any]) -> Any:
        start = time.perf_counter()
        try:
            return await call
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            reason = reason_of(error)
            self._metrics.redis_failed(operation, reason)
            self._log.failed(reason)
            raise StoreUnavailable from error
        finally:
            self._metrics.redis(operation, time.perf_counter() - start)
