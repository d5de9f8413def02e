"""How lists change by steering, before an engine that a test opens and shuts."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest

from steersman_service.api.list_change import ListChange
from steersman_service.engine.request import Edits, EngineRequest, EngineResult
from steersman_service.scheduling.batcher import Batcher

EDITS = Edits(np.array([3]), np.ones(1, np.float32), np.ones(1, np.float32))
STEERED = EngineRequest(
    np.array([0]), EDITS, np.array([1]), np.ones(1, np.float32), np.ones(9, np.bool_), 4, np.ones(9, np.float32)
)


class PlainEngine:
    """Answers rows 0 to 3. Waits before that while the gate is shut."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.requests: list[EngineRequest] = []

    def cost(self, request: EngineRequest) -> tuple[float, ...]:
        return 1, len(request.ids_T)

    def works(self) -> bool:
        return True

    def run(self, batch: Sequence[EngineRequest]) -> list[EngineResult]:
        self.requests += batch
        self.entered.set()
        self.gate.wait()
        return [EngineResult(np.arange(4), np.zeros(4), []) for _ in batch]


class Spare(Batcher):
    """Counts what it is asked to compute, and computes nothing."""

    def __init__(self) -> None:
        self.asked = 0

    async def spare(self, request: EngineRequest) -> None:
        self.asked += 1


@pytest.fixture
def engine() -> PlainEngine:
    return PlainEngine()


@pytest.fixture
async def batcher(engine: PlainEngine) -> AsyncIterator[Batcher]:
    batcher = Batcher(engine, queue_size=1, max_batch=1)
    yield batcher
    engine.gate.set()
    await batcher.close()


async def begun() -> None:
    """What was to be begun has begun."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_same_request_without_its_controls_is_computed_after_the_answer(
    batcher: Batcher, engine: PlainEngine
) -> None:
    ratios: asyncio.Queue[float] = asyncio.Queue()
    change = ListChange(batcher, 1.0, ratios.put_nowait)
    for rows, ratio in (((3, 2, 1, 0), 0.0), ((0, 7, 2, 8), 0.5), ((5, 6, 7, 8), 1.0), ((0, 1), 0.0)):
        engine.entered.clear()
        change.sample(STEERED, np.array(rows))
        assert not engine.entered.wait(0.01), "not before the handler has returned"
        assert await ratios.get() == ratio
        plain = engine.requests[-1]
        assert [len(edits) for edits in (*plain.edits, plain.concepts_C, plain.concept_strengths_C)] == [0] * 5
        assert plain.tilts_N is None
        assert plain.ids_T is STEERED.ids_T
        assert plain.eligible_N is STEERED.eligible_N
        assert plain.k == STEERED.k
    await change.close()


@pytest.mark.parametrize(
    ("share", "rows", "least", "most"), [(0.0, [1], 0, 0), (1.0, [], 0, 0), (0.3, [1], 2500, 3500)]
)
async def test_a_share_of_the_requests_is_compared(share: float, rows: list[int], least: int, most: int) -> None:
    """Ten standard errors around it; none where no item came back."""
    spare = Spare()
    change = ListChange(spare, share, lambda ratio: None)
    for _ in range(10_000):
        change.sample(STEERED, np.array(rows))
    await begun()
    assert least <= spare.asked <= most


async def test_the_drain_drops_what_is_under_way_and_what_comes_later(batcher: Batcher, engine: PlainEngine) -> None:
    ratios: list[float] = []
    change = ListChange(batcher, 1.0, ratios.append)
    engine.gate.clear()
    change.sample(STEERED, np.array([5]))
    await asyncio.to_thread(engine.entered.wait)
    change.sample(STEERED, np.array([6]))
    await change.close()
    change.sample(STEERED, np.array([7]))
    await begun()
    engine.gate.set()
    await batcher.submit(STEERED)
    assert (ratios, len(engine.requests)) == ([], 2)
