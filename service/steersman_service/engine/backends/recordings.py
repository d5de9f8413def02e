"""Captures at start what a GPU does for every request: which functions, in which sizes, and what happens if it fails.

Dimensions: B batch, T time, D hidden, E edits, N items.
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import cast

import structlog
import torch

from steersman_service.bundle.bundle import ADD
from steersman_service.engine.backends.replayed import Recorder, Replayed, Tensors
from steersman_service.engine.backends.torchscript import TorchBackend
from steersman_service.engine.golden import replay_golden, replay_search
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.index.exact import Index
from steersman_service.engine.index.on_torch import TorchIndex

# Edits of a request, and items that are looked for: a concept is solved on 256 candidates, and comes down to 32 edits or so.
EDITS, ITEMS = (8, 64), (32, 256)
# Parts of the window.
LENGTHS = (1, 2, 4)
# Beyond them, what a call computes takes longer than to tell a GPU of it.
MOST_POSITIONS, MOST_SCORES = 1 << 15, 1 << 22
# What pads a graph's inputs, by proto/README.md. Others are the item table.
FILLS = {"ids_BT": 0, "lengths_B": 0, "h_BD": 0, "features_BE": 0, "gains_BE": 1, "strengths_BE": 0}

log = structlog.get_logger()


def record_or_go_on(graphs: Graphs, index: Index, max_batch: int) -> None:
    """Has TorchBackend and TorchIndex run from recordings.

    If anything fails, golden rows included, a warning says why, and they run as before. Raises BundleError if that fails, too.
    """
    backend, index = cast(TorchBackend, graphs.backend), cast(TorchIndex, index)
    start, memory_bytes = time.perf_counter(), _reserved_bytes()
    try:
        count = record(graphs, index, max_batch)
        for size in batches(max_batch):
            replay_search(graphs, index, "CUDA graphs", size)
            replay_golden(graphs, size)
    except Exception as error:
        # The first error says why a capture failed, those after it only that it did.
        why = error
        while why.__context__ is not None:
            why = cast(Exception, why.__context__)
        log.warning("serving without CUDA graphs", why=str(why))
        backend.replayed, index.replayed = {}, {}
        replay_golden(graphs)
    else:
        seconds, megabytes = time.perf_counter() - start, (_reserved_bytes() - memory_bytes) >> 20
        log.info("CUDA graphs captured", count=count, seconds=round(seconds, 1), memory_mb=megabytes)


def record(graphs: Graphs, index: TorchIndex, max_batch: int) -> int:
    """Returns how many recordings there are. The largest come first: the others fit into their memory."""
    backend = cast(TorchBackend, graphs.backend)
    recorder, count = Recorder(_device(graphs).type), 0
    with torch.inference_mode():
        for graph in ("lower", "edit", ADD):
            spec = graphs.bundle.graphs.get(graph)
            # States of all positions, which a hook below the last block hands on, would have the padded length.
            if spec is None or any("P" in tensor.name.rpartition("_")[2] for tensor in spec.outputs):
                continue
            names = [tensor.name for tensor in spec.inputs]
            replayed = Replayed(partial(backend.run_directly, graph), [FILLS.get(name) for name in names])
            for given in _lower_examples(graphs, max_batch) if graph == "lower" else _edit_examples(graphs, max_batch):
                replayed.record(recorder, tuple(given[name] for name in names))
                count += 1
            backend.replayed[graph] = replayed
        for k in ITEMS:
            replayed = Replayed(partial(index.choose, k=min(k, len(graphs.bundle.items_ND))), [0, -torch.inf])
            for example in _search_examples(graphs, index, max_batch):
                replayed.record(recorder, example)
                count += 1
            index.replayed[k] = replayed
    return count


def batches(max_batch: int) -> list[int]:
    """Powers of two, and the largest batch; largest first."""
    return [max_batch, *(1 << power for power in reversed(range((max_batch - 1).bit_length())))]


def _lower_examples(graphs: Graphs, max_batch: int) -> Iterator[dict[str, torch.Tensor]]:
    window = graphs.bundle.manifest.window.length
    items, device = len(graphs.bundle.items_ND), _device(graphs)
    for rows in batches(max_batch):
        for length in dict.fromkeys(-(-window // part) for part in LENGTHS):
            if rows * length <= MOST_POSITIONS:
                ids_BT = torch.randint(items, (rows, length), device=device)
                lengths_B = torch.arange(length, length - rows, -1, device=device).clamp_min(0)
                yield graphs.tables | {"ids_BT": ids_BT, "lengths_B": lengths_B}


def _edit_examples(graphs: Graphs, max_batch: int) -> Iterator[dict[str, torch.Tensor]]:
    features, device = graphs.bundle.manifest.shape.features, _device(graphs)
    for rows in batches(max_batch):
        for width in reversed(EDITS):
            yield {
                "h_BD": _states(graphs, rows),
                "features_BE": torch.randint(features, (rows, width), device=device),
                "gains_BE": torch.ones(rows, width, device=device),
                "strengths_BE": torch.linspace(-1, 1, width, device=device).repeat(rows, 1),
            }


def _search_examples(graphs: Graphs, index: TorchIndex, max_batch: int) -> Iterator[Tensors]:
    for rows in batches(max_batch):
        if rows * len(graphs.bundle.items_ND) <= MOST_SCORES:
            query_BD = _states(graphs, rows)
            yield query_BD, index.scores(query_BD)


def _states(graphs: Graphs, rows: int) -> torch.Tensor:
    """Of about the length of states: items are as long."""
    items_ND: torch.Tensor = graphs.tables["items_ND"]
    return items_ND[torch.arange(rows, device=_device(graphs)) % len(items_ND)]


def _device(graphs: Graphs) -> torch.device:
    return cast(torch.Tensor, graphs.tables["items_ND"]).device


def _reserved_bytes() -> int:
    """Memory of the GPU, without what is only kept to be given out again."""
    torch.cuda.empty_cache()
    return torch.cuda.memory_reserved() if torch.cuda.is_available() else 0
