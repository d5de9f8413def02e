"""An engine without a server, as a notebook or a batch job loads it."""

import doctest
from pathlib import Path

import numpy as np
import pytest

from steersman_service.engine import loading
from steersman_service.engine.loading import load_engine
from steersman_service.engine.observer import Silent
from steersman_service.engine.options import EngineOptions
from steersman_service.engine.request import EngineRequest
from steersman_service.errors import StartupError
from tests.service.engine.test_engine import assert_same, works


def test_the_example_runs(bundle_dir: Path) -> None:
    (example,) = doctest.DocTestFinder().find(
        load_engine, globs=vars(loading) | {"folder": bundle_dir, "EngineRequest": EngineRequest}
    )
    assert len(example.examples) == 3
    assert doctest.DocTestRunner().run(example).failed == 0


class Notes(Silent):
    def __init__(self) -> None:
        self.stages: list[str] = []

    def inference(self, stage: str, seconds: float) -> None:
        self.stages.append(stage)


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_golden_rows_and_warm_up_are_not_reported_and_leave_nothing_behind(bundle_dir: Path, backend: str) -> None:
    notes = Notes()
    engine = load_engine(bundle_dir, EngineOptions(backend=backend), notes)  # type: ignore[arg-type]
    assert (notes.stages, len(engine.states), len(engine.key_values)) == ([], 0, 0)
    engine.run([EngineRequest(np.arange(3))])
    assert notes.stages == ["lower", "search"]
    assert len(engine.states) == 1


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_a_request_is_answered_alone_as_in_any_batch(bundle_dir: Path, backend: str) -> None:
    """As loaded, with its caches; the first answers are of an engine that keeps nothing."""
    plain = load_engine(bundle_dir, EngineOptions(backend=backend, state_cache_mb=0, kv_cache_mb=0))  # type: ignore[arg-type]
    engine = load_engine(bundle_dir, EngineOptions(backend=backend, threads=2, max_batch=8))  # type: ignore[arg-type]
    batch = works(engine.bundle, 24, seed=3, jumps=False)
    alone = [plain.run([request])[0] for request in batch]
    for begin, end in ((0, 24), (5, 9), (3, 20)):
        for answer, wanted in zip(engine.run(batch[begin:end]), alone[begin:end], strict=True):
            assert_same(answer, wanted, 1e-5)


def test_half_precision_needs_torch(bundle_dir: Path) -> None:
    with pytest.raises(StartupError, match="precision float16: the onnx backend"):
        load_engine(bundle_dir, EngineOptions(precision="float16"))
