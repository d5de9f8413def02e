"""How lists change by steering, before an engine that a test opens and shuts."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import numpy as np
import pytest

from steersman_service.api.list_change import ListChange
from steersman_service.engine.request import Edits
from steersman_service.engine.request import EngineRequest as Work
from steersman_service.engine.request import EngineResult as Answer
from steersman_service.rpc.calls import Context
from steersman_service.scheduling.batcher import Batcher

EDITS = Edits(np.array([3]), np.ones(1, np.float32), np.ones(1, np.float32))
STEERED = Work(
    np.array([0]), EDITS, np.array([1]), np.ones(1, np.float32), np.ones(9, np.bool_), 4, np.ones(9, np.float32)
)


class PlainEngine:
    """Answers rows 0 to 3. Waits before that while the gate is shut."""

    depth = 1

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.works: list[Work] = []

    def positions(self, work: Work) -> int:
        return len(work.ids_T)

    def run(self, batch: Sequence[Work]) -> list[Answer]:
        self.works += batch
        self.entered.set()
        self.gate.wait()
        return [Answer(np.arange(4), np.zeros(4), []) for _ in batch]


class Sending:
    """The context of a call whose answer is about to be sent."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Any], None]] = []

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.callbacks.append(callback)

    def sent(self) -> None:
        for callback in self.callbacks:
            callback(self)


@pytest.fixture
def engine() -> PlainEngine:
    return PlainEngine()


@pytest.fixture
async def batcher(engine: PlainEngine) -> AsyncIterator[Batcher]:
    batcher = Batcher(engine, queue_size=1, max_batch=1)
    yield batcher
    engine.gate.set()
    await batcher.close()


def sampled(change: ListChange, *rows: int) -> Sending:
    context = Sending()
    change.sample(STEERED, np.array(rows), cast(Context, context))
    return context


async def test_the_same_request_without_its_controls_is_computed_after_the_answer(
    batcher: Batcher, engine: PlainEngine
) -> None:
    ratios: asyncio.Queue[float] = asyncio.Queue()
    change = ListChange(batcher, 1.0, ratios.put_nowait)
    for rows, ratio in (((3, 2, 1, 0), 0.0), ((0, 7, 2, 8), 0.5), ((5, 6, 7, 8), 1.0), ((0, 1), 0.0)):
        answer = sampled(change, *rows)
        before = len(engine.works)
        await asyncio.sleep(0)
        assert len(engine.works) == before, "not before the answer is sent"
        answer.sent()
        assert await ratios.get() == ratio
        plain = engine.works[-1]
        assert [len(edits) for edits in (*plain.edits, plain.concepts_C, plain.concept_strengths_C)] == [0] * 5
        assert plain.tilts_N is None
        assert plain.ids_T is STEERED.ids_T
        assert plain.eligible_N is STEERED.eligible_N
        assert plain.k == STEERED.k
    await change.close()


async def test_nothing_is_compared_where_no_share_is_wanted_or_no_item_came_back(batcher: Batcher) -> None:
    ratios: list[float] = []
    assert not any(sampled(ListChange(batcher, 0.0, ratios.append), 1).callbacks for _ in range(1000))
    assert not sampled(ListChange(batcher, 1.0, ratios.append)).callbacks


async def test_a_share_of_the_requests_is_compared(batcher: Batcher) -> None:
    change = ListChange(batcher, 0.3, lambda ratio: None)
    count = sum(len(sampled(change, 1).callbacks) for _ in range(10_000))
    assert 2500 < count < 3500, "ten standard errors"


async def test_the_drain_drops_what_is_under_way_and_what_comes_later(batcher: Batcher, engine: PlainEngine) -> None:
    ratios: list[float] = []
    change = ListChange(batcher, 1.0, ratios.append)
    engine.gate.clear()
    under_way, later = sampled(change, 5), sampled(change, 6)
    under_way.sent()
    await asyncio.to_thread(engine.entered.wait)
    await change.close()
    later.sent()
    for _ in range(10):
        await asyncio.sleep(0)
    engine.gate.set()
    await batcher.submit(STEERED, None)
    assert (ratios, len(engine.works)) == ([], 2)
