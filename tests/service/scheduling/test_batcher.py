"""The batcher before an engine that computes when a test lets it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_service.engine.request import Edits, EngineRequest, EngineResult
from steersman_service.errors import DeadlinePassed, DeadlineTooNear, Draining, EngineLost, QueueFull
from steersman_service.scheduling.batcher import Batcher
from steersman_service.scheduling.latency import LatencyModel

QUEUE_SIZE, MAX_BATCH = 8, 4


class GatedEngine:
    """Answers each request with its k, and waits before each batch until the test opens the gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def cost(self, work: EngineRequest) -> tuple[float, ...]:
        return 1, len(work.ids_T)

    def works(self) -> bool:
        return True

    def run(self, batch: Sequence[EngineRequest]) -> list[EngineResult]:
        self.batches.append([work.k for work in batch])
        self.entered.release()
        self.gate.acquire()
        if any(work.k < 0 for work in batch):
            raise RuntimeError("broken")
        return [EngineResult(np.array([work.k]), np.zeros(1), []) for work in batch]

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


@pytest.fixture
async def batcher_with(engine: GatedEngine) -> AsyncIterator[Callable[..., Batcher]]:
    """Makes a batcher with other limits."""
    made: list[Batcher] = []

    def make(**limits: float) -> Batcher:
        made.append(Batcher(engine, **{"queue_size": 100, "max_batch": MAX_BATCH, **limits}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    engine.release(100)
    for batcher in made:
        await batcher.close()


def work(k: int, positions: int = 0) -> EngineRequest:
    nothing = np.zeros(0)
    return EngineRequest(np.zeros(positions), Edits(nothing, nothing, nothing), nothing, nothing, nothing, k)


def in_seconds(timeout_seconds: float | None) -> float:
    return float("inf") if timeout_seconds is None else time.monotonic() + timeout_seconds


def submit(
    batcher: Batcher, k: int, timeout_seconds: float | None = None, *, tenant: str = "", positions: int = 0
) -> "asyncio.Task[int]":
    async def call() -> int:
        return int((await batcher.submit(work(k, positions), in_seconds(timeout_seconds), tenant)).rows_K[0])

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
        await batcher.submit(work(99))
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
            await batcher.submit(work(99), in_seconds(SLOW_SECONDS / 2))
    assert refused.value.code == "RESOURCE_EXHAUSTED"
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
    expired, gone, kept = submit(batcher, 1, timeout_seconds=0.2), submit(batcher, 2), submit(batcher, 3, 60.0)
    await settle()
    gone.cancel()
    await settle()
    assert batcher.depth == 2, "a caller that has gone makes room at once"
    with pytest.raises(DeadlinePassed):
        await submit(batcher, 4, timeout_seconds=0.0)
    await asyncio.sleep(0.3)
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


async def test_a_request_that_fails_fails_no_other(batcher: Batcher, engine: GatedEngine) -> None:
    first = submit(batcher, 0)
    await engine.computing()
    calls = [submit(batcher, k) for k in (1, -1, 2)]
    await settle()
    engine.release(5)
    assert await first == 0
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert (found[0], found[2]) == (1, 2)
    assert isinstance(found[1], RuntimeError)
    assert engine.batches == [[0], [1, -1, 2], [1], [-1], [2]]


async def test_an_engine_that_computes_nothing_any_more_is_told_of() -> None:
    class Broken(GatedEngine):
        def works(self) -> bool:
            return False

    engine, broken = Broken(), asyncio.Event()
    engine.release(100)
    batcher = Batcher(engine, queue_size=QUEUE_SIZE, max_batch=MAX_BATCH, on_broken=broken.set)
    with pytest.raises(RuntimeError, match="broken"):
        await submit(batcher, -1)
    await asyncio.wait_for(broken.wait(), 60)
    await batcher.close()


async def test_an_engine_that_is_given_up_fails_all_that_waits(batcher: Batcher, engine: GatedEngine) -> None:
    calls = [submit(batcher, 0)]
    await engine.computing()
    calls += [submit(batcher, k) for k in range(1, 4)]
    await settle()
    assert batcher.alive
    batcher.abandon()
    for call in calls:
        with pytest.raises(EngineLost):
            await call
    with pytest.raises(EngineLost):
        await submit(batcher, 9)
    assert not batcher.alive


async def test_results_say_how_they_were_made(batcher: Batcher, engine: GatedEngine) -> None:
    first = asyncio.create_task(batcher.submit(work(0)))
    await engine.computing()
    others = [asyncio.create_task(batcher.submit(work(k))) for k in (1, 2)]
    await asyncio.sleep(0.05)
    engine.release(2)
    assert (await first).batch_size == 1
    for result in await asyncio.gather(*others):
        assert result.batch_size == 2
        assert result.queue_seconds > 0.03
        assert result.inference_seconds > 0


async def test_closing_computes_what_waits_and_takes_nothing_new(engine: GatedEngine) -> None:
    batcher = Batcher(engine, queue_size=QUEUE_SIZE, max_batch=MAX_BATCH)
    calls = [submit(batcher, k) for k in range(6)]
    await engine.computing()
    closing = asyncio.create_task(batcher.close())
    await settle()
    with pytest.raises(Draining):
        await batcher.submit(work(9))
    engine.release(2)
    await closing
    assert await asyncio.gather(*calls) == list(range(6))


async def test_spare_work_runs_where_the_engine_has_nothing_else_to_do(batcher: Batcher, engine: GatedEngine) -> None:
    spare = asyncio.create_task(batcher.spare(work(1)))
    await engine.computing()
    assert await batcher.spare(work(2)) is None, "the engine computes"
    waiting = submit(batcher, 3)
    await settle()
    assert batcher.depth == 1, "spare work takes no place that a request could have"
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


async def test_a_tenant_that_fills_the_queue_is_refused_in_place_of_others(
    batcher: Batcher, engine: GatedEngine
) -> None:
    first = submit(batcher, 0, tenant="flood")
    await engine.computing()
    flood = [submit(batcher, k, tenant="flood") for k in range(1, QUEUE_SIZE + 1)]
    await settle()
    others = [submit(batcher, 100, tenant="other"), submit(batcher, 101, tenant="other")]
    await settle()
    assert batcher.depth == QUEUE_SIZE
    with pytest.raises(QueueFull):
        await batcher.submit(work(99), tenant="flood")
    for refused in flood[-2:]:
        with pytest.raises(QueueFull) as full:
            await refused
        assert full.value.retry_seconds
    engine.release(4)
    assert await asyncio.gather(first, *flood[:-2], *others) == [*range(QUEUE_SIZE - 1), 100, 101]


async def test_a_trickle_is_in_the_next_batch_whatever_the_flood(
    batcher_with: Callable[..., Batcher], engine: GatedEngine
) -> None:
    batcher = batcher_with()
    flood = [submit(batcher, k, tenant="flood", positions=200) for k in range(40)]
    await engine.computing()
    for batch in range(1, 6):
        trickle = submit(batcher, 1000 + batch, tenant="trickle", positions=200)
        await settle()
        engine.release()
        await engine.computing()
        assert 1000 + batch in engine.batches[batch]
        assert not trickle.done()
    engine.release(100)
    await asyncio.gather(*flood)
    computed = [k for batch in engine.batches for k in batch if k < 1000]
    assert computed == list(range(40)), "first in, first out"


class EagerEngine:
    """Answers at once, but for the first batch, which waits until the test opens the gate."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.entered, self.gate = threading.Event(), threading.Event()

    def cost(self, work: EngineRequest) -> tuple[float, ...]:
        return 1, len(work.ids_T)

    def works(self) -> bool:
        return True

    def run(self, batch: Sequence[EngineRequest]) -> list[EngineResult]:
        self.batches.append([work.k for work in batch])
        self.entered.set()
        self.gate.wait()
        return [EngineResult(np.array([work.k]), np.zeros(1), []) for work in batch]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200)), min_size=1, max_size=40), st.integers(1, 8))
def test_no_batch_leaves_room_while_something_waits(calls: list[tuple[str, int]], max_batch: int) -> None:
    async def run() -> None:
        engine = EagerEngine()
        batcher = Batcher(engine, queue_size=100, max_batch=max_batch)
        first = submit(batcher, -1)
        await asyncio.to_thread(engine.entered.wait)
        tasks = [submit(batcher, k, tenant=tenant, positions=positions) for k, (tenant, positions) in enumerate(calls)]
        await settle()
        engine.gate.set()
        assert await asyncio.gather(first, *tasks) == [-1, *range(len(calls))]
        await batcher.close()
        assert engine.batches.pop(0) == [-1]
        sizes = [len(batch) for batch in engine.batches]
        assert sizes == [*[max_batch] * (len(calls) // max_batch), *filter(None, [len(calls) % max_batch])]
        for tenant in "abc":
            own = [k for batch in engine.batches for k in batch if calls[k][0] == tenant]
            assert own == sorted(own)

    asyncio.run(run())


@pytest.fixture
def known_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    """A millisecond a position, and nothing else."""
    monkeypatch.setattr(LatencyModel, "seconds", lambda model, load: load.positions / 1e3)


@pytest.mark.usefixtures("known_latency")
async def test_a_batch_takes_no_more_than_it_should_take(
    batcher_with: Callable[..., Batcher], engine: GatedEngine
) -> None:
    batcher = batcher_with(batch_seconds=0.25)
    calls = [submit(batcher, 0)]
    await engine.computing()
    for k, positions in enumerate((100, 100, 100, 400, 10, 20, 30, 40), 1):
        calls.append(submit(batcher, k, positions=positions))
        await settle()
    engine.release(5)
    await asyncio.gather(*calls)
    assert engine.batches == [[0], [1, 2], [3], [4], [5, 6, 7, 8]]


@pytest.mark.usefixtures("known_latency")
async def test_admission_looks_at_what_comes_first_and_what_it_costs(
    batcher_with: Callable[..., Batcher], engine: GatedEngine
) -> None:
    batcher = batcher_with(batch_seconds=1.0)
    calls = [submit(batcher, 0)]
    await engine.computing()
    calls += [submit(batcher, k, tenant="long", positions=200) for k in range(1, 21)]
    await settle()
    with pytest.raises(DeadlineTooNear):
        await batcher.submit(work(99, 200), in_seconds(2.0), "long")
    # Its turn comes sooner, and twenty short requests would have been no reason to refuse it.
    calls.append(submit(batcher, 21, 2.0, tenant="short", positions=10))
    await settle()
    calls += [submit(batcher, k, 2.0, tenant="short", positions=10) for k in range(22, 30)]
    await settle()
    assert batcher.depth == 29
    engine.release(100)
    assert await asyncio.gather(*calls) == list(range(30))


class ThreadEngine(EagerEngine):
    """Notes the thread that each batch runs in."""

    def __init__(self) -> None:
        super().__init__()
        self.gate.set()
        self.threads: list[int] = []

    def run(self, batch: Sequence[EngineRequest]) -> list[EngineResult]:
        self.threads.append(threading.get_ident())
        return super().run(batch)


@pytest.mark.parametrize(
    ("expected_seconds", "together", "inline"),
    [(0.001, 1, True), (0.01, 1, False), (0.001, 2, False), (0, 1, False)],
)
async def test_a_single_quick_request_does_not_leave_the_event_loop(
    expected_seconds: float, together: int, inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LatencyModel, "seconds", lambda model, load: expected_seconds)  # 0: nothing was learnt yet
    engine = ThreadEngine()
    batcher = Batcher(engine, queue_size=QUEUE_SIZE, max_batch=MAX_BATCH, inline=True)
    for _ in range(3):
        assert await asyncio.gather(*(submit(batcher, k) for k in range(together))) == [*range(together)]
    own = threading.get_ident()
    assert [thread == own for thread in engine.threads] == [inline] * 3
    await batcher.close()


@pytest.mark.usefixtures("known_latency")
async def test_who_cannot_wait_for_what_is_being_computed_is_refused(batcher: Batcher, engine: GatedEngine) -> None:
    first = submit(batcher, 1, positions=60_000)
    await engine.computing()
    with pytest.raises(DeadlineTooNear):
        async with asyncio.timeout(10):  # it is refused at once
            await submit(batcher, 2, timeout_seconds=30.0)
    engine.release()
    assert await first == 1
