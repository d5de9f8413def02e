"""The queue beside the engine: admission, fairness and batching."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import structlog

from steersman_service.engine.request import EngineRequest, EngineResult
from steersman_service.errors import DeadlinePassed, DeadlineTooNear, Draining, EngineLost, QueueFull
from steersman_service.scheduling.fair_queue import FairQueue
from steersman_service.scheduling.latency import NOTHING, Load, QueueModel
from steersman_service.telemetry.traces import Context, Work, traces

# What the event loop may compute by itself. The way to the engine's thread and back takes a tenth of that.
INLINE_SECONDS = 0.002

log = structlog.get_logger()


class Computes(Protocol):
    """What the batcher needs of an engine."""

    def run(self, batch: Sequence[EngineRequest]) -> list[EngineResult]: ...
    def cost(self, request: EngineRequest) -> tuple[float, ...]:
        """The terms of a Load. May be called from any thread, while a batch is computed."""

    def works(self) -> bool:
        """Whether it still computes anything at all."""


class _Job(NamedTuple):
    tenant: str
    load: Load
    request: EngineRequest
    done: "asyncio.Future[EngineResult]"
    submitted: float
    deadline: float
    trace: Context = b""
    spare: bool = False


class Batcher:
    """A bounded queue and the thread that runs the engine.

    An idle engine starts at once: no batch waits to fill. While it computes, requests gather; the next batch takes up to `max_batch` of
    them, as many as the latency model expects to compute in `batch_seconds`. Tenants take turns, each tenant's requests oldest first. The
    engine's thread takes the next batch by itself, without a turn of the event loop; with `inline`, a single quick request is computed
    by the event loop (decision 0016 has the figures). A batcher belongs to one event loop.
    """

    def __init__(
        self,
        engine: Computes,
        *,
        queue_size: int,
        max_batch: int,
        batch_seconds: float = float("inf"),
        on_batch: Callable[[Sequence[float]], None] = lambda waits_seconds: None,
        on_broken: Callable[[], None] = lambda: None,
        inline: bool = False,
    ) -> None:
        """`on_batch` gets the waits of a batch's requests, in seconds, in the engine's thread; `on_broken` is called in the event loop
        when the engine computes nothing any more."""
        self._engine = engine
        self._queue_size = queue_size
        self._max_batch = max_batch
        self._on_batch = on_batch
        self._on_broken = on_broken
        self._may_inline = inline
        self.changed = asyncio.Event()
        """Set when `alive` has changed."""
        self._loop = asyncio.get_running_loop()
        # Holding this lock, the event loop's thread and the engine's change what follows.
        self._changed = threading.Condition()
        self._waiting: FairQueue[_Job] = FairQueue()
        self._spare: _Job | None = None
        self._batch: list[_Job] = []
        """Computed now."""
        self._done_at = 0.0
        """When that is expected to end."""
        self._model = QueueModel(max_batch, batch_seconds)
        self._batches_done = 0
        self._closing = self._waking = self._lost = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """False once the engine is lost."""
        return not self._lost

    @property
    def progress(self) -> int | None:
        """Batches done so far; None while nothing is computed."""
        return self._batches_done if self._batch else None

    @property
    def wait_seconds(self) -> float:
        """That a request which comes now is expected to wait until it is computed."""
        with self._changed:
            return self._wait_seconds(self._waiting.load, time.monotonic())

    @property
    def thread(self) -> int:
        """Identifier of the engine's thread."""
        assert self._thread.ident is not None
        return self._thread.ident

    async def submit(
        self, request: EngineRequest, deadline: float = float("inf"), tenant: str = "", session: str = ""
    ) -> EngineResult:
        """The result. A cancelled caller leaves the queue at once. Errors: those of `put`."""
        return await self.put(request, deadline, tenant, traces().context())

    def put(
        self, request: EngineRequest, deadline: float = float("inf"), tenant: str = "", trace: Context = b""
    ) -> "asyncio.Future[EngineResult]":
        """Queues a request; cancelling the future removes it. `deadline` is in seconds of time.monotonic().

        Raises at once: QueueFull if `queue_size` requests wait, unless another tenant has more of them, whose newest is refused instead;
        DeadlineTooNear if the queue is expected to take longer than the deadline allows; Draining after `close`; EngineLost. The future
        raises DeadlinePassed if the deadline passed in the queue, or the engine's error.
        """
        if self._lost:
            raise EngineLost
        if self._closing:
            raise Draining("the server is shutting down", retry_seconds=1.0)
        now = time.monotonic()
        job = _Job(tenant, Load(*self._engine.cost(request)), request, self._loop.create_future(), now, deadline, trace)
        with self._changed:
            self._admit(job, now)
            if len(self._waiting) >= self._queue_size:
                self._refuse_one(tenant, now)
            self._waiting.put(job)
            if not self._waking and not self._batch:
                # In the next turn of the event loop: requests that arrive in one turn are computed together.
                self._waking = True
                self._loop.call_soon(self._wake)
        job.done.add_done_callback(lambda done: self._drop(job) if done.cancelled() else None)
        return job.done

    async def spare(self, request: EngineRequest) -> EngineResult | None:
        """Computes `request` if the engine is idle, or else gives None at once. It takes no place in the queue."""
        job = _Job("", NOTHING, request, self._loop.create_future(), time.monotonic(), float("inf"), spare=True)
        with self._changed:
            if self._closing or self._waiting or self._batch or self._spare:
                return None
            self._spare = job
            self._changed.notify()
        return await job.done

    async def close(self) -> None:
        """Computes what is queued, takes nothing new, and ends the thread, unless the engine is lost."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        while self._thread.is_alive() and not self._lost:
            await asyncio.to_thread(self._thread.join, 0.1)
        # Callbacks that the thread scheduled last run before this returns.
        await asyncio.sleep(0)

    def abandon(self) -> None:
        """The engine hangs: everything queued or under way fails with EngineLost."""
        with self._changed:
            self._lost = self._closing = True
            lost = [*self._batch]
            while self._waiting:
                lost.append(job := self._waiting.next())
                self._waiting.drop(job)
            if self._spare:
                lost.append(self._spare)
                self._spare = None
        _set([(job, EngineLost()) for job in lost])
        self.changed.set()

    def _wake(self) -> None:
        with self._changed:
            self._waking = False
            batch = self._begin() if self._inline() else None
            self._changed.notify()
        if batch:
            self._compute(batch)

    def _inline(self) -> bool:
        """Whether the event loop itself computes the only request in the queue: handing it to the thread and back would take longer than
        others wait for the event loop."""
        seconds = self._model.latency.seconds(self._waiting.load)
        return self._may_inline and len(self._waiting) == 1 and not self._batch and 0 < seconds <= INLINE_SECONDS

    def _drop(self, job: _Job) -> None:
        with self._changed:
            self._waiting.drop(job)

    def _work(self) -> None:
        while batch := self._next():
            self._compute(batch)

    def _next(self) -> list[_Job] | None:
        """The next batch; None after `close`."""
        with self._changed:
            while True:
                if not self._waking and not self._batch and (batch := self._begin()):
                    return batch
                if self._closing and not self._waiting and not self._spare:
                    return None
                self._changed.wait()

    def _begin(self) -> list[_Job]:
        """Takes a batch, which is computed from now on; empty if there is none."""
        if batch := self._take():
            now = time.monotonic()
            self._batch, self._done_at = batch, now + self._model.latency.seconds(_load(batch))
            if not batch[0].spare:
                self._on_batch([now - job.submitted for job in batch])
        return batch

    def _take(self) -> list[_Job]:
        batch: list[_Job] = []
        load, now = NOTHING, time.monotonic()
        while self._waiting and len(batch) < self._max_batch:
            job = self._waiting.next()
            if job.done.done():
                self._waiting.drop(job)
            elif job.deadline <= now:
                self._waiting.drop(job)
                passed = DeadlinePassed("the deadline passed in the queue: not computed")
                self._loop.call_soon_threadsafe(_set, [(job, passed)])
                _record(job, now, now, 0, passed)
            elif batch and self._model.overfull(load.plus(job.load)):
                break
            else:
                self._waiting.take(job)
                batch.append(job)
                load = load.plus(job.load)
        if not batch and self._spare:
            batch, self._spare = [self._spare], None
        return batch

    def _compute(self, batch: list[_Job]) -> None:
        start = time.monotonic()
        outcomes = _outcomes(self._engine, [job.request for job in batch])
        now = time.monotonic()
        failed = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if failed and not self._engine.works():
            log.error("the engine computes nothing any more", exc_info=failed[0])
            self._loop.call_soon_threadsafe(self._on_broken)
        with self._changed:
            if not batch[0].spare and now > start and not failed:
                self._model.latency.learn(_load(batch), now - start)
            self._batches_done += 1
            self._batch = []
            self._changed.notify()
        told = [_told(job, outcome, start, now, len(batch)) for job, outcome in zip(batch, outcomes, strict=True)]
        if threading.current_thread() is self._thread:
            self._loop.call_soon_threadsafe(_set, told)
        else:
            _set(told)

    def _refuse_one(self, tenant: str, now: float) -> None:
        """Refuses `tenant`, or the newest job of the tenant that fills the queue."""
        full = QueueFull(f"{self._queue_size} requests wait already", retry_seconds=self._drain_seconds(now))
        job = self._waiting.give_way(tenant)
        if job is None:
            raise full
        if not job.done.done():
            job.done.set_exception(full)

    def _admit(self, job: _Job, now: float) -> None:
        left = job.deadline - now
        if left <= 0:
            raise DeadlinePassed("the deadline has passed: not computed")
        # The whole queue is an upper bound of what comes before.
        if left == float("inf") or self._wait_seconds(self._waiting.load, now) <= left:
            return
        wait = self._wait_seconds(self._waiting.before(job.tenant, job.load), now)
        if wait > left:
            raise DeadlineTooNear(
                f"it would wait for {wait:.3f} s, and its deadline is in {left:.3f} s",
                retry_seconds=self._drain_seconds(now),
            )

    def _wait_seconds(self, before: Load, now: float) -> float:
        """Expected time until the batch of a request starts that comes after `before`."""
        return self._busy_seconds(now) + self._model.wait_seconds(before)

    def _drain_seconds(self, now: float) -> float:
        """Expected time until the queue is empty."""
        return max(0.01, self._busy_seconds(now) + self._model.drain_seconds(self._waiting.load))

    def _busy_seconds(self, now: float) -> float:
        return max(0.0, self._done_at - now) if self._batch else 0.0


def _outcomes(engine: Computes, requests: Sequence[EngineRequest]) -> list[EngineResult | Exception]:
    """A result or an error for each request. After a failure each is tried alone, so that no request fails another."""
    try:
        return [*engine.run(requests)]
    except Exception as error:
        if len(requests) == 1:
            return [error]
        return [outcome for request in requests for outcome in _outcomes(engine, [request])]


def _told(
    job: _Job, outcome: EngineResult | Exception, start: float, end: float, size: int
) -> tuple[_Job, EngineResult | Exception]:
    """A job with its error, or with its result and how that was made."""
    _record(job, start, end, size, outcome)
    if isinstance(outcome, Exception):
        return job, outcome
    timed = outcome._replace(queue_seconds=start - job.submitted, inference_seconds=end - start, batch_size=size)
    return job, timed


def _record(job: _Job, began: float, ended: float, size: int, outcome: EngineResult | Exception) -> None:
    if job.trace:
        error = getattr(outcome, "reason", type(outcome).__name__) if isinstance(outcome, Exception) else ""
        traces().worked(Work(job.trace, job.submitted, began, ended, size, error))


def _load(batch: Sequence[_Job]) -> Load:
    return Load(*(sum(terms) for terms in zip(*(job.load for job in batch), strict=True)))


def _set(outcomes: Sequence[tuple[_Job, EngineResult | Exception]]) -> None:
    for job, outcome in outcomes:
        if job.done.done():
            continue
        if isinstance(outcome, Exception):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome)
