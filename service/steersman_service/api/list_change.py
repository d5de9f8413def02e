"""What steering does to the lists: how much of a steered list the list without controls lacks, on a sample of requests."""

import asyncio
import random
from collections.abc import Callable

import numpy as np

from steersman_service.bundle.bundle import Array
from steersman_service.engine.request import NO_EDITS, NO_ROWS, NO_STRENGTHS, EngineRequest
from steersman_service.scheduling.client import Engines


class ListChange:
    """Computes the second list after the answer has left, and only if the engine is idle: no request waits for it."""

    def __init__(self, engines: Engines, share: float, observe: Callable[[float], None]) -> None:
        """`share` of the requests, 0 to 1, are compared; `observe` takes the share of the list that differs."""
        self._engines = engines
        self._share = share
        self._observe = observe
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    def sample(self, request: EngineRequest, rows_K: Array) -> None:
        """Compares `rows_K`, or not, once the event loop has sent what is ready to be sent."""
        if len(rows_K) and random.random() < self._share:
            asyncio.get_running_loop().call_soon(self._begin, request, rows_K)

    async def close(self) -> None:
        """Cancels what is under way, and compares nothing from now on."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, request: EngineRequest, rows_K: Array) -> None:
        if not self._closed:
            task = asyncio.create_task(self._compare(request, rows_K))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _compare(self, request: EngineRequest, rows_K: Array) -> None:
        plain = await self._engines.spare(
            request._replace(edits=NO_EDITS, concepts_C=NO_ROWS, concept_strengths_C=NO_STRENGTHS, tilts_N=None)
        )
        if plain is not None:
            self._observe(float(np.isin(rows_K, plain.rows_K, invert=True).mean()))
