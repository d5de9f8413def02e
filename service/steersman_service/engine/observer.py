"""Who is told what an engine does."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Observer(Protocol):
    """`Metrics`, or what forwards to it. The engine's thread calls it."""

    def inference(self, stage: str, seconds: float) -> None:
        """A stage of a batch has run: "lower", "append", "concept", "edit", "upper" or "search"."""

    def state_cache(self, hits: int, misses: int) -> None:
        """Requests of a batch whose hidden state was known, or shared in the batch; histories that were computed."""

    def kv_cache(self, hits: int, misses: int) -> None:
        """Histories of a batch that were appended to, and those that were computed whole."""

    def kv_evicted(self) -> None:
        """A history made room for another one."""


class Silent:
    """Tells nobody."""

    def inference(self, stage: str, seconds: float) -> None:
        pass

    def state_cache(self, hits: int, misses: int) -> None:
        pass

    def kv_cache(self, hits: int, misses: int) -> None:
        pass

    def kv_evicted(self) -> None:
        pass


SILENT = Silent()


@contextmanager
def timed(observer: Observer, stage: str) -> Iterator[None]:
    """Reports the time of a stage, unless it fails."""
    start = time.perf_counter()
    yield
    observer.inference(stage, time.perf_counter() - start)
