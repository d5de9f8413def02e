"""What it takes to hold sessions: memory of an embedded Valkey and of a server's caches, and how long a visit takes.

Dimensions: T time, S sessions.
"""

import asyncio
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from redis import Redis

from bench.curves.costs import KEPT_BYTES, K
from bench.curves.curve import Curve, Point
from steersman_service.bundle.bundle import Array, Bundle
from steersman_service.bundle.items import Items
from steersman_service.bundle.window import in_window
from steersman_service.engine.backends.onnx import OnnxBackend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.history import HistoryReader
from steersman_service.engine.request import EngineRequest
from steersman_service.sessions.reader import SessionReader
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.settings import load_settings
from steersman_service.telemetry.metrics import Metrics

MEDIAN_EVENTS, MEAN_EVENTS = 96, 165
"""Of MovieLens-1M's users."""
TOGETHER = 64
"""Sessions written at a time."""
VISITED = 200
TARGET = 100_000
PARTS = ("meta", "items", "ids")
CACHES = ("session_cache_mb", "state_cache_mb", "kv_cache_mb")
PANEL = "sessions held"


class Held(NamedTuple):
    """Memory in bytes."""

    events: float
    """Of a session, on average, as far as the store keeps them."""
    store_a_session: float
    """The line through what the store takes at each size."""
    store_base: float
    store_parts: dict[str, float]
    """What the keys of a session take, on average over some, as the store tells."""
    store_resident_a_session: float
    """Resident memory of the store at the largest size."""
    caches: dict[str, float]
    """An entry of each cache of a server, on average over some sessions, by the setting that bounds it."""
    limits: dict[str, int]
    """What the settings allow."""

    def store(self, sessions: int) -> float:
        """Memory of the store for as many sessions."""
        return self.store_base + sessions * self.store_a_session

    def server(self, sessions: int) -> dict[str, float]:
        """Memory of a server's caches after as many sessions have asked."""
        return {name: min(limit, sessions * self.caches[name]) for name, limit in self.limits.items()}


def draw_lengths(count: int, rng: np.random.Generator) -> Array:
    """Events of sessions: log-normal, with the median and the mean of MovieLens-1M. (S)"""
    deviation = math.sqrt(2 * math.log(MEAN_EVENTS / MEDIAN_EVENTS))
    return np.maximum(1, rng.lognormal(math.log(MEDIAN_EVENTS), deviation, count)).astype(np.int64)


def held(bundle: Bundle, sizes: Sequence[int]) -> tuple[list[Curve], Held]:
    """Fills a store to each of the sizes in turn, smallest first."""
    with tempfile.TemporaryDirectory(prefix="steersman-") as folder:
        valkey = EmbeddedValkey.start(Path(folder))
        try:
            with Redis.from_url(valkey.url) as redis:
                return asyncio.run(_held(bundle, sorted(sizes), valkey.url, redis))
        finally:
            valkey.stop()


async def _held(bundle: Bundle, sizes: Sequence[int], url: str, redis: Redis) -> tuple[list[Curve], Held]:
    limits, empty = load_settings(), _memory(redis)["used_memory"]
    store = SessionStore(
        url, max_events=limits.max_session_events, ttl_seconds=86400.0, timeout_seconds=60.0, metrics=Metrics()
    )
    # The embedded store acknowledges what is on the disk; how fast that is tells nothing of sessions.
    redis.config_set("appendfsync", "everysec")
    lengths_S = draw_lengths(sizes[-1], np.random.default_rng(0))
    taken, visits = [], []
    for before, size in zip([0, *sizes], sizes, strict=False):
        await _write(bundle, store, lengths_S[before:size].tolist(), before, limits.max_events_per_append)
        taken.append(Point(size, _memory(redis)["used_memory"] - empty))
        visits.append(await _visits(bundle, store, size))
    resident = _memory(redis)["used_memory_rss"] / sizes[-1]
    some = range(min(VISITED, sizes[-1]))
    parts = {part: statistics.fmean(_usage(redis, number, part) for number in some) for part in PARTS}
    caches = await _caches(bundle, store, some, limits.max_session_events)
    await store.close()
    slope, base = _line(taken)
    kept = float(np.minimum(lengths_S, limits.max_session_events).mean())
    bounds = {name: getattr(limits, name) << 20 for name in CACHES}
    megabytes = [Point(size, cost / 2**20) for size, cost in taken]
    curves = [Curve(PANEL, "memory of the store", "MiB", megabytes)]
    for line, costs in zip(("a visit, read whole", "a visit, remembered"), zip(*visits, strict=True), strict=True):
        curves.append(Curve(f"{PANEL}, visited", line, "microseconds", list(map(Point, sizes, costs))))
    return curves, Held(kept, slope, base, parts, resident, caches, bounds)


def _line(points: Sequence[Point]) -> tuple[float, float]:
    """Slope and height at 0 of the line by least squares: of a single point, the line from nothing."""
    if len(points) == 1:
        return points[0].cost / points[0].x, 0.0
    sizes, costs = zip(*points, strict=True)
    slope, base = np.polyfit(sizes, costs, 1).tolist()
    return slope, base


async def _write(bundle: Bundle, store: SessionStore, lengths: Sequence[int], first: int, most: int) -> None:
    """Sessions from number `first` on, in appends of at most `most` events."""
    turns = asyncio.Semaphore(TOGETHER)

    async def write(number: int, events: int) -> None:
        async with turns:
            rng = np.random.default_rng(number)
            for begin in range(0, events, most):
                await store.append(_name(number), _events(bundle, rng, min(most, events - begin)))

    await asyncio.gather(*(write(first + place, events) for place, events in enumerate(lengths)))


async def _visits(bundle: Bundle, store: SessionStore, sessions: int) -> tuple[float, float]:
    """Median microseconds in which an event is appended and the session read: whole, and by a process that read it before."""
    rng = np.random.default_rng(sessions)
    items = Items(bundle.items)
    seconds: list[list[float]] = [[], []]
    for number in rng.integers(sessions, size=VISITED).tolist():
        reader = SessionReader(store, items, max_events=load_settings().max_session_events, limit_bytes=KEPT_BYTES)
        for own in seconds:
            events = _events(bundle, rng, 1)
            began = time.perf_counter()
            await reader.visit(_name(number), events)
            own.append(time.perf_counter() - began)
    whole, remembered = (1e6 * statistics.median(own) for own in seconds)
    return whole, remembered


async def _caches(bundle: Bundle, store: SessionStore, numbers: range, most: int) -> dict[str, float]:
    """Bytes of an entry of each cache, after all of these sessions have asked for recommendations."""
    reader = SessionReader(store, Items(bundle.items), max_events=most, limit_bytes=KEPT_BYTES)
    graphs = Graphs(bundle, OnnxBackend(bundle, threads=1))
    engine = Engine(graphs, history=HistoryReader(graphs, state_bytes=KEPT_BYTES, kv_bytes=KEPT_BYTES))
    window = bundle.manifest.window
    for number in numbers:
        session = await reader.visit(_name(number), [])
        assert session is not None, "a session that was written is there"
        ids_T = in_window(session.places, session.total_events, window.length, window.stride)
        engine.run([EngineRequest(ids_T, k=K, grows=True)])
    bytes_held = (reader.held_bytes, engine.states.held_bytes, engine.key_values.held_bytes)
    return {name: held / len(numbers) for name, held in zip(CACHES, bytes_held, strict=True)}


def _name(number: int) -> str:
    return f"session-{number:08}"


def _events(bundle: Bundle, rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Event ids as long as a UUID in hexadecimal digits."""
    column = bundle.items["item_id"]
    return [(rng.bytes(16).hex(), str(column[row])) for row in rng.integers(len(column), size=count).tolist()]


def _memory(redis: Redis) -> dict[str, Any]:
    memory: dict[str, Any] = redis.info("memory")
    return memory


def _usage(redis: Redis, number: int, part: str) -> int:
    return int(redis.memory_usage(f"steersman:{{{_name(number)}}}:{part}", samples=0) or 0)
