"""Batches what waits: requests come in one at a time, the engine takes them together."""

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

from steersman_service.engine.engine import Answer, Work
from steersman_service.errors import DeadlinePassed, DeadlineTooNear, Draining, EngineLost, QueueFull
from steersman_service.scheduling.fair_queue import FairQueue
from steersman_service.scheduling.pace import NOTHING, Load, Pace

# What may be computed on the event loop, where nobody else waits for it. To hand it to the worker and back takes a tenth of that.
INLINE_SECONDS = 0.002
# How long before an engine is expected to be done with what it has it is given the next batch: to bring one there takes about that.
LEAD_SECONDS = 0.006


class Computes(Protocol):
    """What the batcher needs of an engine in this process, which a thread calls."""

    def run(self, batch: Sequence[Work]) -> list[Answer]: ...
    def positions(self, work: Work) -> int:
        """Events that it would have to read now. Called from the event loop's thread, while it may run."""


class ComputesElsewhere(Protocol):
    """The same of an engine in another process, which the event loop calls."""

    depth: int
    """Batches that it may be given at a time. It computes one after the other."""

    async def run(self, batch: Sequence[Work]) -> list[Answer]: ...
    def positions(self, work: Work) -> int: ...


class Computed(NamedTuple):
    """An answer, and how it was made."""

    answer: Answer
    queue_seconds: float
    """From submission until the engine was free for its batch."""
    inference_seconds: float
    """Time of the whole batch, from then on."""
    batch_size: int


class _Job(NamedTuple):
    tenant: str
    load: Load
    work: Work
    done: asyncio.Future[Computed]
    submitted: float
    deadline: float
    counts: bool = True
    """Whether somebody has asked for it."""


@dataclass(eq=False)
class _Batch:
    """What the engine was given."""

    jobs: Sequence[_Job]
    load: Load
    started: float | None = None
    """When the engine was free for it. None: it computes another one."""


class Batcher:
    """A bounded queue before an engine.

    An engine that is free is given what waits: there is no waiting for a batch to fill. While it computes, requests gather, and the next
    batch takes up to `max_batch` of them, as many as it is expected to compute in `batch_seconds`: who comes while it computes does not
    wait longer than that. Tenants take turns, and each one's requests go oldest first.

    Before an engine in this process, a worker thread takes work from the queue by itself, as soon as it has computed what it had: it does
    not wait for the event loop to hand over the next batch. A request that is alone on the server, and quick, is computed while the event
    loop waits: the way to the worker and back would be a good part of its time. An engine elsewhere is brought the next batch by the event
    loop, just before it is done with the one before. It has to be made and used on one event loop.
    """

    def __init__(
        self,
        engine: Computes | ComputesElsewhere,
        *,
        queue_size: int,
        max_batch: int,
        batch_seconds: float = float("inf"),
        on_batch: Callable[[Sequence[float]], None] = lambda waits_seconds: None,
        alone: Callable[[], bool] = lambda: False,
    ) -> None:
        """`on_batch` is told, when a batch begins, how long each of its requests has waited, from whichever thread. `alone` says
        whether there is one call on the server at most."""
        self._engine = engine
        self._here = None if inspect.iscoroutinefunction(engine.run) else cast(Computes, engine)
        self._elsewhere = None if self._here else cast(ComputesElsewhere, engine)
        self._depth = self._elsewhere.depth if self._elsewhere else 1
        self._queue_size = queue_size
        self._max_batch = max_batch
        self._batch_seconds = batch_seconds
        self._on_batch = on_batch
        self._alone = alone
        self._loop = asyncio.get_running_loop()
        # What follows belongs to whoever holds it: the event loop's thread or the worker.
        self._changed = threading.Condition()
        self._waiting: FairQueue[_Job] = FairQueue()
        self._spare: _Job | None = None
        self._pace = Pace()
        self._closing = self._waking = self._abandoned = False
        self._ended = 0
        """Batches that have been computed."""
        self._under_way: list[_Batch] = []
        """What the engine was given, the one that it computes first."""
        self._done_at = 0.0
        self._sending: set[asyncio.Task[None]] = set()
        self._later: asyncio.TimerHandle | None = None
        self._worker: threading.Thread | None = None
        if self._here:
            self._worker = threading.Thread(target=self._work, args=[self._here], name="engine", daemon=True)
            self._worker.start()

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    async def submit(self, work: Work, timeout_seconds: float | None, tenant: str = "") -> Computed:
        """Waits for the answer.

        Raises QueueFull if `queue_size` requests wait: at once, unless another tenant has more of them waiting than
        `tenant`, whose newest one is then refused in its place. Raises DeadlineTooNear at once if those before it are
        expected to take longer than `timeout_seconds`, Draining after `close`, and DeadlinePassed if `timeout_seconds`
        were over before the request's batch began. A cancelled caller leaves the queue at once.
        """
        if self._abandoned:
            raise EngineLost
        if self._closing:
            raise Draining("the server is shutting down", retry_seconds=1.0)
        now, load = time.monotonic(), self._load(work)
        deadline = now + timeout_seconds if timeout_seconds is not None else float("inf")
        job = _Job(tenant, load, work, self._loop.create_future(), now, deadline)
        with self._changed:
            if timeout_seconds is not None:
                self._admit(tenant, load, timeout_seconds, now)
            inline = self._takes_inline(job)
            if not inline:
                if len(self._waiting) >= self._queue_size:
                    self._refuse_one(tenant, now)
                self._waiting.put(job)
                if not self._waking and (len(self._waiting) == 1 or self._early_seconds(now) <= 0):
                    # Once the event loop has done what it is at: requests that come together are computed together.
                    self._waking = True
                    self._loop.call_soon(self._wake)
        if inline and self._here:
            self._compute(self._here, inline)
        try:
            return await job.done
        finally:
            if job.done.cancelled():
                with self._changed:
                    self._waiting.drop(job)

    async def spare(self, work: Work) -> Answer | None:
        """Computes `work` if the engine has nothing else to do, and gives None at once if it has.

        For what nobody waits for: it takes no place in the queue, and a request that comes meanwhile is next.
        """
        now, load = time.monotonic(), self._load(work)
        job = _Job("", load, work, self._loop.create_future(), now, float("inf"), counts=False)
        with self._changed:
            if self._closing or self._waiting or self._under_way or self._spare:
                return None
            self._spare = job
        self._wake()
        return (await job.done).answer

    async def close(self) -> None:
        """Computes what waits, takes nothing new, and ends the worker.

        What an engine elsewhere still has, and nobody waits for any more, is left to it: if it stands still, the server ends nevertheless.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._worker and not self._abandoned:
            await asyncio.to_thread(self._worker.join)
        while self._waiting or (self._sending and self._is_waited_for()):
            self._send()
            if self._sending:
                await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
        # What the worker said last is heard of before this returns.
        await asyncio.sleep(0)

    @property
    def progress(self) -> int | None:
        """Another number whenever a batch was computed. None: there is nothing to compute."""
        return self._ended if self._under_way else None

    @property
    def thread(self) -> int | None:
        """Which computes here."""
        return self._worker.ident if self._worker else None

    def abandon(self) -> None:
        """The engine stands still: what it was given, and what waits, fails with EngineLost. From the event loop's thread."""
        with self._changed:
            self._abandoned = self._closing = True
            lost = [job for batch in self._under_way for job in batch.jobs]
            while self._waiting:
                lost.append(job := self._waiting.next())
                self._waiting.drop(job)
            if self._spare:
                lost.append(self._spare)
                self._spare = None
        _set(lost, EngineLost())

    def _load(self, work: Work) -> Load:
        return Load(1, self._engine.positions(work), len(work.concepts_C))

    def _is_waited_for(self) -> bool:
        """Whether anybody waits for what the engine was given."""
        return any(not job.done.done() for batch in self._under_way for job in batch.jobs)

    def _wake(self) -> None:
        """Has the engine be given what waits, if it is time."""
        with self._changed:
            self._waking = False
            self._changed.notify()
        self._send()

    def _work(self, engine: Computes) -> None:
        while batch := self._next():
            self._compute(engine, batch)

    def _send(self) -> None:
        """Brings an engine elsewhere what waits, if it is time, or else as soon as it is."""
        if not self._elsewhere:
            return
        if self._later:
            self._later.cancel()
            self._later = None
        while (early := self._early_seconds(time.monotonic())) <= 0:
            if not (jobs := self._take()):
                return
            task = self._loop.create_task(self._sent(self._elsewhere, self._begin(jobs)))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        if early < float("inf"):
            self._later = self._loop.call_later(early, self._send)

    async def _sent(self, engine: ComputesElsewhere, batch: _Batch) -> None:
        answers: list[Answer] | Exception
        try:
            answers = await engine.run([job.work for job in batch.jobs])
        except Exception as error:
            answers = error
        self._done(batch, answers)
        self._send()

    def _next(self) -> _Batch | None:
        """What the worker computes next. None: there will be no more."""
        with self._changed:
            while True:
                # The event loop may compute something by itself.
                if not self._under_way and (jobs := self._take()):
                    return self._begin(jobs)
                if self._closing and not self._waiting and not self._spare:
                    return None
                self._changed.wait()

    def _early_seconds(self, now: float) -> float:
        """Until the engine is to be given what waits: what comes meanwhile can still be in that batch."""
        if not self._under_way:
            return 0.0
        if len(self._under_way) == self._depth:
            return float("inf")
        if self._batches(self._waiting.load) >= 1:
            return 0.0
        return self._done_at - LEAD_SECONDS - now if self._waiting else float("inf")

    def _takes_inline(self, job: _Job) -> _Batch | None:
        """The batch that the event loop computes by itself, now."""
        expected = self._pace.seconds(job.load)
        if self._elsewhere or self._under_way or self._waiting:
            return None
        return self._begin([job]) if 0 < expected <= INLINE_SECONDS and self._alone() else None

    def _begin(self, jobs: list[_Job]) -> _Batch:
        now, batch = time.monotonic(), _Batch(jobs, _load(jobs))
        self._done_at = max(now, self._done_at) if self._under_way else now
        self._done_at += self._pace.seconds(batch.load)
        self._under_way.append(batch)
        self._start(self._under_way[0], now)
        return batch

    def _start(self, batch: _Batch, now: float) -> float:
        """The engine computes it from now on, unless it did before. When that was."""
        if batch.started is None:
            batch.started = now
            if waits := [now - job.submitted for job in batch.jobs if job.counts]:
                self._on_batch(waits)
        return batch.started

    def _end(self, batch: _Batch, now: float) -> None:
        self._under_way.remove(batch)
        self._ended += 1
        if self._under_way:
            self._start(self._under_way[0], now)
        self._done_at = now + sum(self._pace.seconds(other.load) for other in self._under_way)
        self._changed.notify()

    def _take(self) -> list[_Job]:
        batch: list[_Job] = []
        load, now = NOTHING, time.monotonic()
        while self._waiting and len(batch) < self._max_batch:
            job = self._waiting.next()
            if job.done.done():
                self._waiting.drop(job)
            elif job.deadline <= now:
                self._waiting.drop(job)
                self._tell([job], DeadlinePassed("the deadline passed in the queue: not computed"))
            elif batch and self._rate_seconds(load.plus(job.load)) > self._room_seconds:
                break
            else:
                self._waiting.take(job)
                batch.append(job)
                load = load.plus(job.load)
        if not batch and self._spare:
            batch, self._spare = [self._spare], None
        return batch

    def _compute(self, engine: Computes, batch: _Batch) -> None:
        """In whichever thread it is called."""
        answers: list[Answer] | Exception
        try:
            answers = engine.run([job.work for job in batch.jobs])
        except Exception as error:
            answers = error
        self._done(batch, answers)

    def _done(self, batch: _Batch, answers: list[Answer] | Exception) -> None:
        now = time.monotonic()
        with self._changed:
            start = self._start(batch, now)
            if not isinstance(answers, Exception) and start < now:
                self._pace.learn(batch.load, now - start)
            self._end(batch, now)
        if isinstance(answers, Exception):
            self._tell(batch.jobs, answers)
        else:
            computed = [
                Computed(answer, start - job.submitted, now - start, len(batch.jobs))
                for answer, job in zip(answers, batch.jobs, strict=True)
            ]
            self._tell(batch.jobs, computed)

    def _tell(self, batch: Sequence[_Job], outcome: Sequence[Computed] | Exception) -> None:
        """The callers, from whichever thread: one call to the event loop for all of them."""
        if threading.current_thread() is self._worker:
            self._loop.call_soon_threadsafe(_set, batch, outcome)
        else:
            _set(batch, outcome)

    def _refuse_one(self, tenant: str, now: float) -> None:
        """Of a full queue: whoever fills it, which may be `tenant` itself."""
        full = QueueFull(f"{self._queue_size} requests wait already", retry_seconds=self._drain_seconds(now))
        job = self._waiting.give_way(tenant)
        if job is None:
            raise full
        if not job.done.done():
            job.done.set_exception(full)

    def _admit(self, tenant: str, load: Load, timeout_seconds: float, now: float) -> None:
        # If it can wait for all that waits, nobody's turns have to be counted.
        if self._wait_seconds(self._waiting.load, now) <= timeout_seconds:
            return
        wait = self._wait_seconds(self._waiting.before(tenant, load), now)
        if wait > timeout_seconds:
            raise DeadlineTooNear(
                f"it would wait for {wait:.3f} s, and its deadline is in {timeout_seconds:.3f} s",
                retry_seconds=self._drain_seconds(now),
            )

    def _wait_seconds(self, before: Load, now: float) -> float:
        """Until the batch of a request is expected to begin that comes after `before`."""
        batches = self._batches(before)
        # Those that are in its own batch are not waited for.
        whole = int(batches)
        waited = whole * self._pace.batch_seconds + self._rate_seconds(before) * (whole / batches if batches else 0)
        return self._computing_seconds(now) + waited

    def _drain_seconds(self, now: float) -> float:
        """Until all that waits is expected to be computed."""
        waiting = self._waiting.load
        batches = 1 + self._batches(waiting)
        return max(
            0.01, self._computing_seconds(now) + batches * self._pace.batch_seconds + self._rate_seconds(waiting)
        )

    def _computing_seconds(self, now: float) -> float:
        return max(0.0, self._done_at - now) if self._under_way else 0.0

    def _batches(self, load: Load) -> float:
        """That `load` fills: a batch is full of requests or of what they cost."""
        return max(load.requests / self._max_batch, self._rate_seconds(load) / self._room_seconds)

    @property
    def _room_seconds(self) -> float:
        """For the requests of a batch. Where the call itself costs more than they do, smaller batches would save nobody time."""
        call = self._pace.batch_seconds
        return max(self._batch_seconds - call, call)

    def _rate_seconds(self, load: Load) -> float:
        return self._pace.seconds(load) - self._pace.batch_seconds


def _load(batch: Sequence[_Job]) -> Load:
    return Load(len(batch), sum(job.load.positions for job in batch), sum(job.load.concepts for job in batch))


def _set(batch: Sequence[_Job], outcome: Sequence[Computed] | Exception) -> None:
    for place, job in enumerate(batch):
        if job.done.done():
            continue
        if isinstance(outcome, Exception):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome[place])
