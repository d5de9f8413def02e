"""Whom an engine reports to: `Metrics`, or what forwards to it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Observer(Protocol):
    """The engine's thread calls it, batch by batch."""

    def inference(
        self, stage: str, seconds: float
    ) -> None: ...  # "lower", "append", "concept", "edit", "upper", "search" or "account"
    def state_cache(self, hits: int, misses: int) -> None: ...  # requests whose state was known; histories computed
    def kv_cache(self, hits: int, misses: int) -> None: ...  # histories appended to; histories computed whole
    def kv_evicted(self) -> None: ...


class Silent:
    def inference(self, stage: str, seconds: float) -> None: ...
    def state_cache(self, hits: int, misses: int) -> None: ...
    def kv_cache(self, hits: int, misses: int) -> None: ...
    def kv_evicted(self) -> None: ...


SILENT = Silent()


@contextmanager
def timed(observer: Observer, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    observer.inference(stage, time.perf_counter() - start)
