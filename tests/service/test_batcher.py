"""The batcher before an engine that computes when a test lets it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import grpc
import numpy as np
import pytest

from steersman_service.batcher import Batcher
from steersman_service.engine import Answer, Edits, Work
from steersman_service.errors import DeadlinePassed, DeadlineTooNear, Draining, QueueFull

QUEUE_SIZE, MAX_BATCH = 8, 4


class GatedEngine:
    """Answers each request with its k. Waits before each batch until the test opens the gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def run(self, batch: Sequence[Work]) -> list[Answer]:
        self.batches.append([work.k for work in batch])
        self.entered.release()
        self.gate.acquire()
        if any(work.k < 0 for work in batch):
            raise RuntimeError("broken")
        return [Answer(np.array([work.k]), np.zeros(1), []) for work in batch]

    async def computing(self) -> None:
        await asyncio.to_thread(self.entered.acquire)

    def release(self, batches: int = 1) -> None:
        self.gate.release(batches)


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


@pytest.fixture
async def batcher(engine: GatedEngine) -> AsyncIterator[Batcher]:
    batcher = Batcher(engine, queue_size=QUEUE_SIZE, max_batch=MAX_BATCH)
    yield batcher
    engine.release(100)
    await batcher.close()


def work(k: int) -> Work:
    nothing = np.zeros(0)
    return Work(nothing, Edits(nothing, nothing, nothing), nothing, nothing, nothing, k)


def submit(batcher: Batcher, k: int, timeout_seconds: float | None = None) -> "asyncio.Task[int]":
    async def call() -> int:
        return int((await batcher.submit(work(k), timeout_seconds)).answer.rows_K[0])

    return asyncio.create_task(call())


async def settle() -> None:
    """Lets every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_idle_engine_gets_work_at_once_and_what_waits_is_batched(
    batcher: Batcher, engine: GatedEngine
) -> None:
    first = submit(batcher, 0)
    await engine.computing()
    others = [submit(batcher, k) for k in range(1, 7)]
    await settle()
    assert batcher.depth == 6
    engine.release(3)
    assert await asyncio.gather(first, *others) == list(range(7))
    assert engine.batches == [[0], [1, 2, 3, 4], [5, 6]]


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(batcher: Batcher, engine: GatedEngine) -> None:
    first = submit(batcher, 0)
    await engine.computing()
    waiting = [submit(batcher, k) for k in range(QUEUE_SIZE)]
    await settle()
    with pytest.raises(QueueFull) as refused:
        await batcher.submit(work(99), None)
    assert refused.value.retry_seconds is not None
    assert refused.value.retry_seconds > 0
    engine.release(3)
    await asyncio.gather(first, *waiting)
    assert all(99 not in batch for batch in engine.batches)


SLOW_SECONDS = 0.5


async def slow_batch(batcher: Batcher, engine: GatedEngine) -> None:
    """One that takes at least SLOW_SECONDS: the next ones are expected to."""
    call = submit(batcher, 0)
    await engine.computing()
    await asyncio.sleep(SLOW_SECONDS)
    engine.release()
    await call


async def test_who_would_wait_beyond_its_deadline_is_refused_at_once(batcher: Batcher, engine: GatedEngine) -> None:
    await slow_batch(batcher, engine)
    first = submit(batcher, 0)
    await engine.computing()
    waiting = [submit(batcher, k) for k in range(1, MAX_BATCH + 1)]
    await settle()
    with pytest.raises(DeadlineTooNear) as refused:
        async with asyncio.timeout(60):
            await batcher.submit(work(99), SLOW_SECONDS / 2)
    assert refused.value.status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.value.retry_seconds is not None
    assert refused.value.retry_seconds >= SLOW_SECONDS
    patient = submit(batcher, 50, timeout_seconds=600.0)
    engine.release(3)
    assert await asyncio.gather(first, *waiting, patient) == [*range(MAX_BATCH + 1), 50]
    assert all(99 not in batch for batch in engine.batches)


async def test_an_idle_engine_refuses_no_deadline(batcher: Batcher, engine: GatedEngine) -> None:
    """However long the last batch took: otherwise one bad batch would keep all later ones out for good."""
    await slow_batch(batcher, engine)
    engine.release(2)
    # The mean of both batches is far above what the second one took.
    assert await submit(batcher, 1) == 1
    (outcome,) = await asyncio.gather(submit(batcher, 2, timeout_seconds=SLOW_SECONDS / 2), return_exceptions=True)
    assert not isinstance(outcome, DeadlineTooNear)


async def test_expired_and_cancelled_requests_are_not_computed(batcher: Batcher, engine: GatedEngine) -> None:
    first = submit(batcher, 0)
    await engine.computing()
    expired, gone, kept = submit(batcher, 1, timeout_seconds=0.0), submit(batcher, 2), submit(batcher, 3, 60.0)
    await settle()
    gone.cancel()
    await settle()
    assert batcher.depth == 2, "a caller that has gone makes room at once"
    engine.release(2)
    assert (await first, await kept) == (0, 3)
    with pytest.raises(DeadlinePassed):
        await expired
    assert gone.cancelled()
    assert [list(batch) for batch in engine.batches] == [[0], [3]]


async def test_a_caller_that_goes_while_it_is_computed_harms_nobody(batcher: Batcher, engine: GatedEngine) -> None:
    gone = submit(batcher, 0)
    await engine.computing()
    gone.cancel()
    other = submit(batcher, 1)
    engine.release(2)
    assert await other == 1


async def test_a_failing_batch_fails_its_own_requests_only(batcher: Batcher, engine: GatedEngine) -> None:
    broken = submit(batcher, -1)
    await engine.computing()
    other = submit(batcher, 1)
    engine.release(2)
    with pytest.raises(RuntimeError, match="broken"):
        await broken
    assert await other == 1


async def test_closing_computes_what_waits_and_takes_nothing_new(engine: GatedEngine) -> None:
    batcher = Batcher(engine, queue_size=QUEUE_SIZE, max_batch=MAX_BATCH)
    calls = [submit(batcher, k) for k in range(6)]
    await engine.computing()
    closing = asyncio.create_task(batcher.close())
    await settle()
    with pytest.raises(Draining):
        await batcher.submit(work(9), None)
    engine.release(2)
    await closing
    assert await asyncio.gather(*calls) == list(range(6))


async def test_spare_work_runs_where_the_engine_has_nothing_else_to_do(batcher: Batcher, engine: GatedEngine) -> None:
    spare = asyncio.create_task(batcher.spare(work(1)))
    await engine.computing()
    assert await batcher.spare(work(2)) is None, "the engine computes"
    waiting = submit(batcher, 3)
    await settle()
    assert batcher.depth == 0, "spare work takes no place that a request could have"
    engine.release(2)
    answer = await spare
    assert answer
    assert answer.rows_K == [1]
    assert await waiting == 3
    assert engine.batches == [[1], [3]]


async def test_spare_work_gives_way_to_what_waits_and_to_the_end(batcher: Batcher, engine: GatedEngine) -> None:
    first, second = submit(batcher, 0), submit(batcher, 1)
    await asyncio.sleep(0)
    assert batcher.depth == 2, "the engine has not been given them yet"
    assert await batcher.spare(work(9)) is None
    engine.release(2)
    await asyncio.gather(first, second)
    closing = asyncio.create_task(batcher.close())
    await settle()
    assert await batcher.spare(work(9)) is None
    await closing
    assert all(9 not in batch for batch in engine.batches)


async def test_the_wait_of_every_request_is_told_when_its_batch_begins(engine: GatedEngine) -> None:
    told: list[list[float]] = []
    batcher = Batcher(
        engine, queue_size=QUEUE_SIZE, max_batch=MAX_BATCH, on_batch=lambda waits_seconds: told.append([*waits_seconds])
    )
    first = submit(batcher, 0)
    await engine.computing()
    others = [submit(batcher, k) for k in range(1, 7)]
    await settle()
    assert [len(waits) for waits in told] == [1]
    engine.release(3)
    await asyncio.gather(first, *others)
    assert [len(waits) for waits in told] == [1, 4, 2]
    assert all(seconds >= 0 for waits in told for seconds in waits)
    await batcher.close()
