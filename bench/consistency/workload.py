"""Writers and readers of one session, each through one of several front ends' stores and caches."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pyarrow as pa

from bench.consistency.history import NEVER, Append, Read
from steersman_service.bundle.items import Items
from steersman_service.errors import StoreUnavailable
from steersman_service.sessions.pipeline import Durability
from steersman_service.sessions.reader import SessionReader
from steersman_service.sessions.store import SessionStore
from steersman_service.telemetry.metrics import Metrics

MOST_EVENTS = 20_000
ITEMS = Items(pa.table({"item_id": [f"{event:05}" for event in range(MOST_EVENTS)], "title": [""] * MOST_EVENTS}))
"""Event n is of item n."""
PROBE_SECONDS = 1.0
PAUSE_SECONDS = 0.02
"""Between attempts, and between the calls of one writer or reader, on average."""


class Workload:
    """Records every call."""

    def __init__(self, url: str, session: str, seed: int, *, front_ends: int, durability: Durability) -> None:
        self._session, self._random = session, random.Random(seed)
        self._stores = [
            SessionStore(
                url,
                max_events=MOST_EVENTS,
                ttl_seconds=3600.0,
                timeout_seconds=1.0,
                metrics=Metrics(),
                durability=durability,
            )
            for _ in range(front_ends)
        ]
        self._readers = [
            SessionReader(store, ITEMS, max_events=MOST_EVENTS, limit_bytes=1 << 24) for store in self._stores
        ]
        self._numbers = itertools.count()
        self.appends: list[Append] = []
        self.reads: list[Read] = []
        self.failed_calls = 0
        self.longest_gap_seconds = 0.0
        """Between two acknowledgements."""

    @asynccontextmanager
    async def running(self, writers: int, readers: int) -> AsyncIterator[None]:
        """Calls meanwhile. At the end every event that was sent is acknowledged, but for those that were given up."""
        stop = asyncio.Event()
        each = [self._probe(store, stop) for store in self._stores]
        each += [self._write(stop) for _ in range(writers)] + [self._read_on(stop) for _ in range(readers)]
        tasks = [asyncio.create_task(one) for one in each]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)
        ends = sorted(append.acknowledged for append in self.appends if append.acknowledged < NEVER)
        self.longest_gap_seconds = max((b - a for a, b in itertools.pairwise(ends)), default=0.0)

    async def final(self) -> Read:
        """What every front end reads now: AssertionError if they differ."""
        found = [await self._read(number) for number in range(len(self._readers))]
        told = [f"version {read.version}, {len(read.events)} events, the last {read.events[-3:]}" for read in found]
        assert len({(read.version, read.events) for read in found}) == 1, f"front ends read different sessions: {told}"
        return found[-1]

    async def close(self) -> None:
        for store in self._stores:
            await store.close()

    async def _probe(self, store: SessionStore, stop: asyncio.Event) -> None:
        """As a front end does."""
        while not stop.is_set():
            await store.usable()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), PROBE_SECONDS)

    async def _write(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            event = next(self._numbers)
            attempts = self._random.choice([1, 100, 100, 100])  # some give up after the first failure
            began, acknowledged = time.monotonic(), NEVER
            for _ in range(attempts):
                try:
                    # Repeated elsewhere, as a load balancer does.
                    await self._append(event)
                    acknowledged = time.monotonic()
                    break
                except StoreUnavailable:
                    self.failed_calls += 1
                    await asyncio.sleep(PAUSE_SECONDS)
            self.appends.append(Append(event, began, acknowledged))
            await asyncio.sleep(2 * PAUSE_SECONDS * self._random.random())

    async def _append(self, event: int) -> None:
        number = self._random.randrange(len(self._stores))
        events = [(f"event {event}", ITEMS.ids[event])]
        if self._random.random() < 0.5:
            await self._stores[number].append(self._session, events)
        else:
            began = time.monotonic()
            session = await self._readers[number].visit(self._session, events)
            assert session
            self.reads.append(Read(began, time.monotonic(), session.version, tuple(map(int, session.places))))

    async def _read_on(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                self.reads.append(await self._read(self._random.randrange(len(self._readers))))
            except StoreUnavailable:
                self.failed_calls += 1
            await asyncio.sleep(2 * PAUSE_SECONDS * self._random.random())

    async def _read(self, number: int) -> Read:
        began = time.monotonic()
        session = await self._readers[number].visit(self._session, [])
        if session is None:
            return Read(began, time.monotonic(), 0, ())
        return Read(began, time.monotonic(), session.version, tuple(map(int, session.places)))
