"""Which server has a key: one server, the primary that Sentinels name, or the primaries of a cluster."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from redis.asyncio import ConnectionPool
from redis.asyncio.cluster import ClusterNode, NodesManager
from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from steersman_service.sessions.pipeline import Pipeline
from steersman_service.sessions.redis_url import StoreUrl

NewPipeline = Callable[[Callable[[], AbstractConnection]], Pipeline]

# Several, so that they do not all lie in the slots that one node of a cluster has, where the URL does not say that it is one.
PROBES = tuple(f"/probe/{number}" for number in range(8))
# Ids that are tried to find one for each primary.
MOST_PROBES = 4096
# The map of a cluster is asked for once in so long at most.
REFRESH_SECONDS = 0.05
# Sentinels are asked for the primary so often, by each process.
FOLLOW_SECONDS = 0.1


class Again(NamedTuple):
    """How a call that failed is made again."""

    pipeline: Pipeline | None = None
    """Where, this time alone. None: where its key is."""
    later: bool = False
    """Whether something has to change first."""


class Servers(Protocol):
    def of(self, key: str) -> Pipeline | None:
        """Of the server that has `key`. None: that is not known yet."""

    async def locate(self, key: str) -> Pipeline:
        """As `of`, once it is known. Raises RedisError or OSError."""

    async def recover(self, error: Exception, pipeline: Pipeline | None) -> Again | None:
        """After `error` from `pipeline`. None: the call has failed."""

    async def probes(self, known: bool = False) -> Sequence[str]:
        """Ids of no session, one at least on every server that takes writes.

        To be called now and then: it asks who that is. With `known` it makes no call.
        """

    def pipelines(self) -> Iterable[Pipeline]: ...

    async def close(self) -> None: ...


def open_servers(url: StoreUrl, timeout_seconds: float, pipeline: NewPipeline) -> Servers:
    if url.kind == "cluster":
        return ClusterServers(url, timeout_seconds, pipeline)
    return OneServer(url, timeout_seconds, pipeline)


class OneServer:
    """A server at an address, or the one that Sentinels name each time that a connection is made."""

    def __init__(self, url: StoreUrl, timeout_seconds: float, pipeline: NewPipeline) -> None:
        # Calls are bounded as a whole: a limit for every reply would cost as much as the reply.
        options = {"socket_timeout": None, "socket_connect_timeout": timeout_seconds, "retry": Retry(NoBackoff(), 0)}
        self._sentinel: Sentinel | None = None
        self._pool: ConnectionPool
        if url.kind == "sentinel":
            self._sentinel, self._pool = _watched(url, options)
        else:
            self._pool = ConnectionPool.from_url(url.nodes[0], **options)
        # The pool makes the connections and keeps none of them.
        self._pipeline = pipeline(lambda: self._pool.make_connection())  # type: ignore[no-untyped-call]
        self._following: asyncio.Task[None] | None = None
        self._closing = False

    def of(self, key: str) -> Pipeline | None:
        return self._pipeline

    async def locate(self, key: str) -> Pipeline:
        return self._pipeline

    async def recover(self, error: Exception, pipeline: Pipeline | None) -> Again | None:
        """Connecting asks the Sentinels again."""
        return Again(later=True) if self._sentinel and _is_away(error) else None

    async def probes(self, known: bool = False) -> Sequence[str]:
        if isinstance(self._pool, SentinelConnectionPool) and self._following is None:
            self._following = asyncio.create_task(self._follow(self._pool))
        return PROBES

    async def _follow(self, pool: SentinelConnectionPool) -> None:
        """A primary that was replaced takes writes until it is told, maybe for seconds, and loses them: its connections are closed."""
        known: tuple[str, int] | None = None
        # Asked for in each turn: redis-py may take a cancellation for a timeout that passes at the same moment.
        while not self._closing:
            with suppress(RedisError, OSError):
                named: tuple[str, int] = await pool.get_master_address()  # type: ignore[no-untyped-call]
                if known not in (None, named):
                    self._pipeline.reconnect()
                known = named
            await asyncio.sleep(FOLLOW_SECONDS)

    def pipelines(self) -> Iterable[Pipeline]:
        return (self._pipeline,)

    async def close(self) -> None:
        self._closing = True
        if self._following:
            self._following.cancel()
            await asyncio.wait([self._following])
        await self._pipeline.close()
        if self._sentinel:
            await self._sentinel.aclose()


class _Sentinels(Sentinel):
    """Asks who the primary is by its name. In a failover, the list of masters that redis-py asks for has the new one a second later."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        for place, sentinel in enumerate(self.sentinels):
            with suppress(RedisConnectionError, RedisTimeoutError):
                found: Any = await sentinel.sentinel_get_master_addr_by_name(service_name)
                if found:
                    # Asked first the next time.
                    self.sentinels[0], self.sentinels[place] = sentinel, self.sentinels[0]
                    host, port = found
                    return (host.decode() if isinstance(host, bytes) else host), int(port)
        raise MasterNotFoundError(f"No master found for {service_name!r}")


def _watched(url: StoreUrl, options: dict[str, Any]) -> tuple[Sentinel, SentinelConnectionPool]:
    given: list[dict[str, Any]] = [dict(parse_url(node)) for node in url.nodes]
    addresses = [(each.pop("host", "localhost"), each.pop("port", 26379)) for each in given]
    shared = given[0]
    tls = {name: value for name, value in shared.items() if name.startswith("ssl_")}
    if shared.pop("connection_class", None) is SSLConnection:
        tls["ssl"] = True
    # One that hangs must leave time to ask the others.
    patience = options["socket_connect_timeout"] / (len(addresses) + 1)
    asked: dict[str, Any] = {"socket_timeout": patience, "socket_connect_timeout": patience, **tls, **url.sentinel_user}
    asked["retry"] = options["retry"]
    sentinel = _Sentinels(addresses, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
    pool = SentinelConnectionPool(url.service, sentinel, **{**options, **shared, **tls})  # type: ignore[no-untyped-call]
    return sentinel, pool


class ClusterServers:
    """The primaries of a cluster, each with a pipeline of its own. The map of slots is redis-py's."""

    def __init__(self, url: StoreUrl, timeout_seconds: float, pipeline: NewPipeline) -> None:
        given: list[dict[str, Any]] = [dict(parse_url(node)) for node in url.nodes]
        addresses = [(each.pop("host", "localhost"), each.pop("port", 6379)) for each in given]
        # Of the connections that ask for the map. One that hangs must leave time to ask another.
        patience = {"socket_timeout": timeout_seconds / 3, "socket_connect_timeout": timeout_seconds / 3}
        options = {**given[0], **patience}
        nodes = [ClusterNode(host, port, **options) for host, port in addresses]
        self._map = NodesManager(nodes, require_full_coverage=False, connection_kwargs=options)
        self._connecting = {"socket_timeout": None, "socket_connect_timeout": timeout_seconds}
        self._new_pipeline = pipeline
        self._pipelines: dict[str, Pipeline] = {}
        """By HOST:PORT."""
        self._refreshing: asyncio.Task[None] | None = None
        self._asked = 0.0
        """When, in seconds of time.monotonic()."""
        self._closing: set[asyncio.Task[None]] = set()

    def of(self, key: str) -> Pipeline | None:
        nodes = self._map.slots_cache.get(key_slot(key.encode()))
        return self._pipeline(nodes[0]) if nodes else None

    async def locate(self, key: str) -> Pipeline:
        pipeline = self.of(key)
        if pipeline is None:
            await self._refreshed()
            pipeline = self.of(key)
        if pipeline is None:
            raise ClusterDownError("no node has the slot")
        return pipeline

    async def recover(self, error: Exception, pipeline: Pipeline | None) -> Again | None:
        if isinstance(error, MovedError):
            # A failover moves many slots at once.
            refreshing = self._refresh()
            if error.slot_id in self._map.slots_cache:
                await self._map.move_slot(error)
            else:
                await asyncio.wait([refreshing])
            return Again()
        if isinstance(error, AskError):
            found = self._map.get_node(error.host, error.port)
            node = found or ClusterNode(error.host, error.port, **self._map.connection_kwargs)
            return Again(self._pipeline(node))
        if isinstance(error, TryAgainError):
            return Again(later=True)
        if isinstance(error, ClusterDownError) or _is_away(error):
            self._refresh(self._name(pipeline))
            return Again(later=True)
        if isinstance(error, TimeoutError | RedisTimeoutError):
            # All of its time is gone. The next call may fare better.
            self._refresh(self._name(pipeline))
        return None

    async def probes(self, known: bool = False) -> Sequence[str]:
        if not (known or self._map.slots_cache):
            await self._refreshed()
        wanted = {nodes[0].name for nodes in self._map.slots_cache.values()}
        found: dict[str, str] = {}
        for number in range(MOST_PROBES):
            if len(found) == len(wanted):
                break
            nodes = self._map.slots_cache.get(key_slot(f"/probe/{number}".encode()))
            if nodes:
                found.setdefault(nodes[0].name, f"/probe/{number}")
        return list(found.values()) or PROBES[:1]

    def pipelines(self) -> Iterable[Pipeline]:
        return self._pipelines.values()

    async def close(self) -> None:
        if self._refreshing:
            await asyncio.wait([self._refreshing])
        await asyncio.gather(*(pipeline.close() for pipeline in self._pipelines.values()), *self._closing)
        await self._map.aclose("startup_nodes")
        await self._map.aclose()

    def _pipeline(self, node: ClusterNode) -> Pipeline:
        pipeline = self._pipelines.get(node.name)
        if pipeline is None:
            options = {**node.connection_kwargs, **self._connecting, "retry": Retry(NoBackoff(), 0)}
            pipeline = self._new_pipeline(lambda: node.connection_class(**options))
            self._pipelines[node.name] = pipeline
        return pipeline

    def _name(self, pipeline: Pipeline | None) -> str | None:
        return next((name for name, each in self._pipelines.items() if each is pipeline), None)

    async def _refreshed(self) -> None:
        """Asks for the map, or waits for the answer to whom has asked. Raises RedisError or OSError."""
        await asyncio.shield(self._refresh())

    def _refresh(self, failed: str | None = None) -> asyncio.Task[None]:
        """`failed` is asked last."""
        now = time.monotonic()
        done = self._refreshing is not None and self._refreshing.done()
        if self._refreshing is None or (done and now - self._asked >= REFRESH_SECONDS):
            self._asked = now
            self._refreshing = asyncio.create_task(self._read_map(failed))
            # It is raised where it is waited for, if anywhere.
            self._refreshing.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._refreshing

    async def _read_map(self, failed: str | None) -> None:
        try:
            await self._map.initialize(last_failed_node_name=failed)
        except RedisClusterException as error:
            raise RedisConnectionError("no node gives a map of the cluster") from (error.__cause__ or error)
        for name in set(self._pipelines) - set(self._map.nodes_cache):
            task = asyncio.create_task(self._pipelines.pop(name).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


def _is_away(error: Exception) -> bool:
    """Whether another server may take over from the one that raised it."""
    if isinstance(error, AuthenticationError | TimeoutError):
        return False
    return isinstance(error, RedisConnectionError | ReadOnlyError | OSError)
