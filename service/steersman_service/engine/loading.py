"""Loads an engine: the bundle, what runs its graphs, the index; golden rows are replayed, and every kind of batch has run once."""

from functools import partial
from typing import Protocol

import numpy as np
import structlog

from steersman_service.bundle.bundle import load_bundle
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.engine import Edits, Engine, Work
from steersman_service.engine.golden import replay_golden, replay_search
from steersman_service.engine.groups import cached_positions, length_groups
from steersman_service.engine.kv_cache import KeyValueCache
from steersman_service.engine.state_cache import StateCache
from steersman_service.errors import StartupError
from steersman_service.settings import Settings

log = structlog.get_logger()


class Observer(Protocol):
    """Who is told what an engine does: `Metrics`, or what brings it to them."""

    def inference(self, stage: str, seconds: float) -> None: ...
    def state_cache(self, hits: int, misses: int) -> None: ...
    def kv_cache(self, hits: int, misses: int) -> None: ...
    def kv_evicted(self) -> None: ...


def load_engine(settings: Settings, observer: Observer) -> Engine:
    """Raises StartupError, with the reason, if it must not serve, or cannot."""
    if settings.precision != "float32" and settings.backend != "torch":
        raise StartupError(
            f"precision {settings.precision}: the {settings.backend} backend has float32 alone; use torch"
        )
    bundle = load_bundle(settings.bundle_folder, settings.backend)
    backend = load_backend(bundle, settings.backend, settings.device, settings.threads)
    engine = Engine(bundle, backend)
    if backend.device == "cpu":
        most = cached_positions(bundle.manifest.shape.hidden, settings.threads)
        engine.groups = partial(length_groups, most_positions=most)
    # A GPU reads a whole catalogue sooner than a CPU chooses what to read of it.
    if bundle.manifest.HasField("index") and backend.device == "cpu":
        # Imported here: a server whose engine is in another process needs no ONNX Runtime.
        from steersman_service.engine.index.large import LargeIndex

        engine.index = LargeIndex(bundle, backend, settings.threads, approximate=settings.search == "auto")
    elif backend.name == "torch" and (backend.device == "cuda" or settings.precision != "float32"):
        # Imported here: a server on ONNX Runtime starts where torch is not installed.
        from steersman_service.engine.index.on_torch import TorchIndex

        engine.index = TorchIndex(backend, engine.tables, settings.precision)
        replay_search(engine, f"precision {settings.precision}")
    replay_golden(engine)
    if backend.name == "torch" and backend.device == "cuda" and settings.cuda_graphs == "auto":
        # Imported here, as above.
        from steersman_service.engine.backends.recordings import record_or_go_on

        record_or_go_on(engine, settings.max_batch)
    kv_bytes = settings.kv_cache_mb << 20
    engine.key_values = KeyValueCache(kv_bytes)
    _warm_up(engine, settings.max_batch)
    # From here on: warm-up is nobody's request.
    engine.observe = observer.inference
    engine.key_values = KeyValueCache(kv_bytes, observer.kv_cache, observer.kv_evicted)
    engine.states = StateCache(settings.state_cache_mb << 20, observer.state_cache)
    log.info("bundle loaded", version=bundle.version, folder=str(bundle.folder), backend=backend.name)
    return engine


def _warm_up(engine: Engine, max_batch: int) -> None:
    """The first run in a shape is slow: it allocates and, on a GPU, compiles."""
    shape, window = engine.bundle.manifest.shape, engine.bundle.manifest.window
    work = Work(
        np.zeros(window.length, np.int64),
        Edits(np.zeros(1, np.int64), np.zeros(1, np.float32), np.zeros(1, np.float32)),
        np.zeros(min(1, shape.concepts), np.int64),
        np.ones(min(1, shape.concepts), np.float32),
        None,
        min(10, shape.items),
    )
    for size in (1, max_batch):
        # Of different histories: those that are the same are computed once.
        histories_BT = np.random.default_rng(0).integers(shape.items, size=(size, window.length))
        # Computed whole, then whole to be kept, then appended to.
        for begin_BT, grows in ((histories_BT, False), (histories_BT[:, :-1], True), (histories_BT, True)):
            engine.run([work._replace(ids_T=ids_T, grows=grows) for ids_T in begin_BT])
