"""Batches what waits: requests come in one at a time, the engine takes them together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from steersman_service.engine import Answer, Work
from steersman_service.errors import DeadlinePassed, DeadlineTooNear, Draining, QueueFull

# Weight of the latest batch in the running mean of batch times.
SMOOTHING = 0.2


class Computes(Protocol):
    """What the batcher needs of an engine."""

    def run(self, batch: Sequence[Work]) -> list[Answer]: ...


class Computed(NamedTuple):
    """An answer, and how it was made."""

    answer: Answer
    queue_seconds: float
    """From submission to the start of its batch."""
    inference_seconds: float
    """Time of the whole batch."""
    batch_size: int


class _Job(NamedTuple):
    work: Work
    done: asyncio.Future[Computed]
    submitted: float
    deadline: float


class Batcher:
    """A bounded queue before an engine that runs in one worker thread.

    An idle engine is given work at once; there is no waiting for a batch to fill. While it computes, requests gather,
    and the next batch takes up to `max_batch` of them, oldest first. It has to be made and used on one event loop.
    """

    def __init__(
        self,
        engine: Computes,
        *,
        queue_size: int,
        max_batch: int,
        on_batch: Callable[[Sequence[float]], None] = lambda waits_seconds: None,
    ) -> None:
        """`on_batch` is told, when a batch begins, how long each of its requests has waited."""
        self._engine = engine
        self._queue_size = queue_size
        self._max_batch = max_batch
        self._on_batch = on_batch
        self._waiting: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._runs = 0
        self._began = 0.0
        self._batch_seconds = 0.0
        self._worker = ThreadPoolExecutor(1, "engine")
        self._loop = asyncio.create_task(self._dispatch())

    @property
    def depth(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    async def submit(self, work: Work, timeout_seconds: float | None) -> Computed:
        """Waits for the answer.

        Raises QueueFull at once if `queue_size` requests wait, DeadlineTooNear if those before it will take longer than
        `timeout_seconds`, Draining after `close`, and DeadlinePassed if `timeout_seconds` were over before the
        request's batch began. A cancelled caller leaves the queue at once.
        """
        if self._closing:
            raise Draining("the server is shutting down", retry_seconds=1.0)
        if len(self._waiting) >= self._queue_size:
            raise QueueFull(f"{self._queue_size} requests wait already", retry_seconds=self._drain_seconds())
        now = time.monotonic()
        if timeout_seconds is not None and (wait := self._wait_seconds(now)) > timeout_seconds:
            raise DeadlineTooNear(
                f"it would wait for {wait:.3f} s, and its deadline is in {timeout_seconds:.3f} s",
                retry_seconds=self._drain_seconds(),
            )
        deadline = now + timeout_seconds if timeout_seconds is not None else float("inf")
        job = _Job(work, asyncio.get_running_loop().create_future(), now, deadline)
        self._waiting.append(job)
        self._arrived.set()
        try:
            return await job.done
        finally:
            if job.done.cancelled():
                self._leave(job)

    async def spare(self, work: Work) -> Answer | None:
        """Computes `work` if the engine has nothing else to do, and gives None at once if it has.

        For what nobody waits for: it takes no place in the queue, and a request that comes meanwhile is next.
        """
        if self._closing or self._waiting or self._runs:
            return None
        (answer,) = await self._run([work])
        return answer

    async def close(self) -> None:
        """Computes what waits, takes nothing new, and ends the worker."""
        self._closing = True
        self._arrived.set()
        await self._loop
        self._worker.shutdown()

    async def _dispatch(self) -> None:
        while True:
            await self._arrived.wait()
            if batch := self._take():
                await self._compute(batch)
            elif self._closing:
                return
            else:
                self._arrived.clear()

    def _take(self) -> list[_Job]:
        batch: list[_Job] = []
        now = time.monotonic()
        while self._waiting and len(batch) < self._max_batch:
            job = self._waiting.popleft()
            if job.done.done():
                continue
            if job.deadline <= now:
                job.done.set_exception(DeadlinePassed("the deadline passed in the queue: not computed"))
            else:
                batch.append(job)
        return batch

    async def _compute(self, batch: list[_Job]) -> None:
        start = time.monotonic()
        self._on_batch([start - job.submitted for job in batch])
        try:
            answers = await self._run([job.work for job in batch])
        except Exception as error:
            for job in batch:
                if not job.done.done():
                    job.done.set_exception(error)
            return
        seconds = time.monotonic() - start
        self._batch_seconds += SMOOTHING * (seconds - self._batch_seconds) if self._batch_seconds else seconds
        for job, answer in zip(batch, answers, strict=True):
            if not job.done.done():
                job.done.set_result(Computed(answer, start - job.submitted, seconds, len(batch)))

    async def _run(self, batch: list[Work]) -> list[Answer]:
        self._runs += 1
        self._began = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, self._engine.run, batch)
        finally:
            self._runs -= 1

    def _leave(self, job: _Job) -> None:
        # By identity: comparing jobs would compare arrays.
        self._waiting = deque(other for other in self._waiting if other is not job)

    def _wait_seconds(self, now: float) -> float:
        """Until the batch of a request that comes now begins, if batches go on to take what they took."""
        computing = max(0.0, self._began + self._batch_seconds - now) if self._runs else 0.0
        return computing + len(self._waiting) // self._max_batch * self._batch_seconds

    def _drain_seconds(self) -> float:
        batches = 1 + len(self._waiting) / self._max_batch
        return max(0.01, batches * self._batch_seconds)
