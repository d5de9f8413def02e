"""The ways in which the engine can run here, each beside ONNX Runtime on the CPU, whose answers it must give."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, get_args

import numpy as np
import onnxruntime as ort

from steersman_service.bundle.bundle import Array, Bundle
from steersman_service.engine.backends.onnx import PROVIDERS, OnnxBackend, OnnxDeviceBackend
from steersman_service.engine.backends.protocol import Backend
from steersman_service.engine.backends.recordings import batches, record
from steersman_service.engine.backends.torchscript import TorchBackend
from steersman_service.engine.engine import Engine
from steersman_service.engine.golden import replay_golden, replay_search
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.index.on_torch import TorchIndex
from steersman_service.engine.options import Precision
from steersman_service.engine.request import Edits, EngineRequest, EngineResult
from steersman_service.errors import BundleError

K, FEATURES = 20, 8
LARGEST = 64
"""Batch."""
CAPTURED = ", CUDA graphs"
"""Ends the names of ways with them."""


class Way(NamedTuple):
    """A backend, and the precision in which it looks through the item table."""

    name: str
    backend: Backend
    precision: Precision | None
    """None: the bundle's graph `search`."""
    captured: bool = False
    """Whether it runs from CUDA graphs; on a CPU, through the same code without any."""

    def engine(self, bundle: Bundle) -> Engine:
        """Of a catalogue, which may be another one than the bundle's. It keeps no states: every request is computed."""
        graphs = Graphs(bundle, self.backend)
        index = None if self.precision is None else TorchIndex(graphs, self.precision)
        if self.captured and index is not None:
            record(graphs, index, LARGEST)
        return Engine(graphs, index=index)


def ways(bundle: Bundle, device: str, failed: list[str]) -> Iterator[Way]:
    """Those that are there and replay the golden rows; of the others `failed` is told why not."""
    torch_backend, capturing = TorchBackend(bundle, device, 0), TorchBackend(bundle, device, 0)
    found = [Way(f"torch, {precision}", torch_backend, precision) for precision in get_args(Precision)]
    if PROVIDERS["cuda"] in ort.get_available_providers() or device == "cpu":
        found.append(Way("onnx", OnnxDeviceBackend(bundle, 0, device), None))
    found += [Way(f"torch, {precision}{CAPTURED}", capturing, precision, True) for precision in get_args(Precision)]
    for way in found:
        try:
            engine = way.engine(bundle)
            for size in batches(LARGEST) if way.captured else [None]:
                replay_golden(engine.graphs, size)
                replay_search(engine.graphs, engine.index, way.name, size)
        except (BundleError, RuntimeError) as error:
            failed.append(f"{way.name}: {error}")
            if way.captured:
                # After a capture that failed there must be no other one (replayed.py).
                return
        else:
            yield way


def requests(bundle: Bundle, count: int, rng: np.random.Generator) -> list[EngineRequest]:
    """Whole windows of random items, which may not be recommended again; no controls."""
    size, window = len(bundle.items_ND), bundle.manifest.window.length
    rows = [rng.integers(size, size=window) for _ in range(count)]
    return [EngineRequest(ids_T, k=min(K, size), excluded_X=np.unique(ids_T)) for ids_T in rows]


def steered(works: Sequence[EngineRequest], bundle: Bundle, rng: np.random.Generator) -> list[EngineRequest]:
    """The same with controls on some features each."""
    features, gains = bundle.manifest.shape.features, np.ones(FEATURES, np.float32)
    return [
        work._replace(
            edits=Edits(
                rng.choice(features, FEATURES, replace=False), gains, rng.uniform(-1, 1, FEATURES).astype(np.float32)
            )
        )
        for work in works
    ]


def with_concept(works: Sequence[EngineRequest]) -> list[EngineRequest]:
    return [
        work._replace(concepts_C=np.zeros(1, np.int64), concept_strengths_C=np.ones(1, np.float32)) for work in works
    ]


def mixed(bundle: Bundle, rng: np.random.Generator) -> list[EngineRequest]:
    """Of every kind: plain, steered, filtered to a tenth, and tilted."""
    size = len(bundle.items_ND)
    plain, edited, filtered, tilted = (requests(bundle, 2, rng) for _ in range(4))
    return [
        *plain,
        *steered(edited, bundle, rng),
        *(work._replace(eligible_N=rng.random(size) < 0.1) for work in filtered),
        *(work._replace(tilts_N=rng.choice([0.0, 0.5], size).astype(np.float32)) for work in tilted),
    ]


def wanted(bundle: Bundle, works: Sequence[EngineRequest]) -> list[EngineResult]:
    """What ONNX Runtime answers on the CPU."""
    return Engine(Graphs(bundle, OnnxBackend(bundle, 0))).run(works)


class Agreement(NamedTuple):
    """With the answers of the CPU."""

    score_error: float
    """The largest difference of scores at the same place."""
    recall: float
    """Share of the items that come back, in whatever order."""
    within: bool
    """Scores within the tolerance, and the same items, but for those closer to the last one than that."""


def agreement(answers: Sequence[EngineResult], others: Sequence[EngineResult], bundle: Bundle) -> Agreement:
    """By the manifest's tolerance for float32: in half precision items are found, and scored in float32 all the same."""
    tolerance = next(one for one in bundle.manifest.tolerances if (one.backend, one.dtype) == ("torch", "float32"))
    errors, recalls, within = [0.0], [], True
    for got, other in zip(answers, others, strict=True):
        if len(got.rows_K) != len(other.rows_K):
            return Agreement(float("inf"), 0.0, within=False)
        allowed_K = tolerance.absolute + tolerance.relative * np.abs(other.scores_K)
        errors.append(float(np.abs(got.scores_K - other.scores_K).max(initial=0)))
        recalls.append(float(np.isin(other.rows_K, got.rows_K).mean()))
        within &= bool((np.abs(got.scores_K - other.scores_K) <= allowed_K).all()) and _same(got, other, allowed_K)
    return Agreement(max(errors), float(np.mean(recalls)), within)


def _same(got: EngineResult, other: EngineResult, allowed_K: Array) -> bool:
    """Whether each item has its score on the other side, or lost the last place there to one that is as good."""
    scores = dict(zip(other.rows_K.tolist(), other.scores_K.tolist(), strict=True))
    pairs = zip(got.rows_K.tolist(), got.scores_K.tolist(), allowed_K.tolist(), strict=True)
    return all(abs(scores.get(row, other.scores_K[-1]) - score) <= 2 * allowed for row, score, allowed in pairs)
