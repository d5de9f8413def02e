"""Loads an engine from a bundle's folder: golden rows are replayed, and batches of every kind have run once."""

from functools import partial
from pathlib import Path

import numpy as np
import structlog

from steersman_service.bundle.bundle import load_bundle
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.concepts import check_concepts
from steersman_service.engine.directions import check_directions
from steersman_service.engine.engine import Engine
from steersman_service.engine.golden import replay_golden, replay_search
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.groups import cached_positions, length_groups
from steersman_service.engine.history import HistoryReader
from steersman_service.engine.index.exact import Index
from steersman_service.engine.observer import SILENT, Observer
from steersman_service.engine.options import EngineOptions
from steersman_service.engine.request import Edits, EngineRequest
from steersman_service.engine.steering import CORE_PART_BYTES
from steersman_service.errors import StartupError

log = structlog.get_logger()


def load_engine(folder: Path, options: EngineOptions | None = None, observer: Observer = SILENT) -> Engine:
    """Loads the bundle in `folder`, verified. It needs no server:

    >>> engine = load_engine(folder, EngineOptions(threads=2))
    >>> (answer,) = engine.run([EngineRequest(ids_T=np.array([3, 14, 15]), k=5)])
    >>> engine.bundle.items["item_id"].take(answer.rows_K).to_pylist()  # doctest: +ELLIPSIS
    ['...']

    `observer` is told of what is computed from then on. Raises StartupError, with the reason, for a bundle that must not be served or
    options that cannot be met.
    """
    options = options or EngineOptions()
    if options.precision != "float32" and options.backend != "torch":
        raise StartupError(f"precision {options.precision}: the {options.backend} backend has float32 alone; use torch")
    bundle = load_bundle(folder, options.backend, options.bundle_keys)
    backend = load_backend(bundle, options.backend, options.device, options.threads)
    graphs = Graphs(bundle, backend)
    index = _load_index(graphs, options)
    replay_golden(graphs)
    check_directions(graphs)
    check_concepts(graphs)
    if index is not None and backend.name == "torch" and backend.device == "cuda" and options.cuda_graphs == "auto":
        # Imported here: without a GPU it is not needed.
        from steersman_service.engine.backends.recordings import record_or_go_on

        record_or_go_on(graphs, index, options.max_batch)
    _warm_up(_assembled(graphs, index, options, SILENT), options.max_batch)
    log.info("bundle loaded", version=bundle.version, folder=str(bundle.folder), backend=backend.name)
    return _assembled(graphs, index, options, observer)


def _load_index(graphs: Graphs, options: EngineOptions) -> Index | None:
    """None: the bundle's graph `search`. What is imported here is not installed, or not needed, everywhere."""
    bundle, backend = graphs.bundle, graphs.backend
    # A GPU reads a whole catalogue sooner than a CPU chooses what to read of it.
    if bundle.manifest.HasField("index") and backend.device == "cpu":
        from steersman_service.engine.index.large import LargeIndex

        return LargeIndex(bundle, backend, options.threads, approximate=options.search == "auto")
    if backend.name == "torch" and (backend.device == "cuda" or options.precision != "float32"):
        from steersman_service.engine.index.on_torch import TorchIndex

        index = TorchIndex(graphs, options.precision)
        replay_search(graphs, index, f"precision {options.precision}")
        return index
    return None


def _assembled(graphs: Graphs, index: Index | None, options: EngineOptions, observer: Observer) -> Engine:
    on_cpu, hidden = graphs.backend.device == "cpu", graphs.bundle.manifest.shape.hidden
    most_positions = cached_positions(hidden, options.threads)
    history = HistoryReader(
        graphs,
        state_bytes=options.state_cache_mb << 20,
        kv_bytes=options.kv_cache_mb << 20,
        groups=partial(length_groups, most_positions=most_positions) if on_cpu else None,
        observer=observer,
    )
    part_bytes = options.threads * CORE_PART_BYTES if on_cpu else None
    return Engine(graphs, index=index, history=history, part_bytes=part_bytes, observer=observer)


def _warm_up(engine: Engine, max_batch: int) -> None:
    """The first run in a shape is slow: it allocates and, on a GPU, compiles."""
    shape, window = engine.bundle.manifest.shape, engine.bundle.manifest.window
    request = EngineRequest(
        np.zeros(window.length, np.int64),
        Edits(np.zeros(1, np.int64), np.zeros(1, np.float32), np.zeros(1, np.float32)),
        np.zeros(min(1, shape.concepts), np.int64),
        np.ones(min(1, shape.concepts), np.float32),
        k=min(10, shape.items),
    )
    for size in (1, max_batch):
        # Of different histories: those that are the same are computed once.
        histories_BT = np.random.default_rng(0).integers(shape.items, size=(size, window.length))
        # Computed whole, then whole to be kept, then appended to.
        for begin_BT, grows in ((histories_BT, False), (histories_BT[:, :-1], True), (histories_BT, True)):
            engine.run([request._replace(ids_T=ids_T, grows=grows) for ids_T in begin_BT])
