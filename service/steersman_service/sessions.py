"""Keeps sessions in Redis (or Valkey): the latest events, their total count and the sticky controls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from steersman_service.errors import StoreUnavailable
from steersman_service.metrics import Metrics

# Ids are remembered for this many times the events that are kept, so that an append repeated after its events were
# trimmed away still counts once. A client repeats within seconds; a session's memory has to be bounded all the same.
REMEMBERED_IDS_PER_EVENT = 2
MAX_CONNECTIONS = 64


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

    The script is sent again to a server that does not know it, so nothing breaks at a restart, a failover or a flush.
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
        self._script = client.register_script(files(__package__).joinpath("sessions.lua").read_text("utf-8"))
        self._max_events = max_events
        self._ttl_seconds = ttl_seconds
        self._timeout_seconds = timeout_seconds
        self._calls: set[asyncio.Task[Any]] = set()

    @classmethod
    def connect(
        cls, url: str, *, max_events: int, ttl_seconds: float, timeout_seconds: float, metrics: Metrics
    ) -> SessionStore:
        """Makes a store for `redis://`, `rediss://` or `unix://`. No connection is made before the first operation.

        Raises ValueError for another kind of URL.
        """
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            # A pooled connection may have gone stale since its last use: one more attempt, at once, on a new one.
            retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),
        )
        return cls(
            Redis.from_pool(pool),
            max_events=max_events,
            ttl_seconds=ttl_seconds,
            timeout_seconds=timeout_seconds,
            metrics=metrics,
        )

    async def append(self, session_id: str, events: Sequence[tuple[str, str]]) -> AppendOutcome:
        """Appends (event id, item id) pairs, oldest first, all or none. An id counts once. Creates the session."""
        # An append larger than the memory is remembered whole until the next one: repeating it at once stays harmless.
        remembered = max(REMEMBERED_IDS_PER_EVENT * self._max_events, len(events))
        flat = [part for event in events for part in event]
        appended, version, total = await self._run("append", session_id, self._max_events, remembered, *flat)
        self._metrics.session_events(appended=appended, duplicates=len(events) - appended)
        if appended and version == 1:
            self._metrics.session_created()
        return AppendOutcome(appended, len(events) - appended, version, total)

    async def get(self, session_id: str) -> SessionState | None:
        """The session, or None if there is no such session."""
        found = await self._run("get", session_id)
        if found is None:
            return None
        version, total, item_ids, controls = found
        return SessionState(version, total, [item.decode() for item in item_ids], controls, self._ttl_seconds)

    async def set_controls(self, session_id: str, controls: Sequence[bytes]) -> int:
        """Replaces the sticky controls; gives the session's version. Creates the session."""
        version, created = await self._run("set_controls", session_id, *controls)
        if created:
            self._metrics.session_created()
        return int(version)

    async def delete(self, session_id: str) -> bool:
        """Forgets the session; whether there was one."""
        existed = bool(await self._run("delete", session_id))
        if existed:
            self._metrics.session_deleted()
        return existed

    async def ping(self) -> bool:
        """Whether the store answers in time."""
        try:
            return bool(await self._bounded("ping", self._client.ping()))
        except StoreUnavailable:
            return False

    async def close(self) -> None:
        """Waits for the calls under way (they are bounded in time), then closes the connections."""
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._client.aclose()
        await self._client.connection_pool.aclose()

    async def _run(self, operation: str, session_id: str, *arguments: str | int | bytes) -> Any:
        keys = [f"steersman:{{{session_id}}}:{part}" for part in ("meta", "items", "ids", "controls")]
        ttl_ms = round(self._ttl_seconds * 1000)
        return await self._bounded(operation, self._script(keys, [operation, ttl_ms, *arguments]))

    async def _bounded(self, operation: str, call: Awaitable[Any]) -> Any:
        # The call is a task of its own, and runs to its end even if its caller is cancelled: a connection that goes
        # back to the pool with a reply unread would hand that reply to the next caller (redis-py issue 2624).
        task = asyncio.create_task(self._translated(operation, call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return await asyncio.shield(task)

    async def _translated(self, operation: str, call: Awaitable[Any]) -> Any:
        start = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await call
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            self._metrics.redis_failed(operation)
            raise StoreUnavailable("the session store does not answer") from error
        finally:
            self._metrics.redis(operation, time.perf_counter() - start)
