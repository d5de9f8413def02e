"""An engine that runs from recordings, as on a GPU, on the CPU: it answers as without them, or goes on without them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pytest
import structlog
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from steersman_service.bundle.bundle import Array, Bundle, load_bundle
from steersman_service.engine import loading as engine_loading
from steersman_service.engine.backends.recordings import batches, record, record_or_go_on
from steersman_service.engine.backends.replayed import Recorder, Tensors
from steersman_service.engine.backends.torchscript import TorchBackend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.groups import one_group
from steersman_service.engine.history import HistoryReader
from steersman_service.engine.index.on_torch import TorchIndex
from steersman_service.engine.loading import load_engine
from steersman_service.engine.options import EngineOptions, Precision
from steersman_service.engine.request import Edits, EngineRequest
from steersman_service.errors import BundleError
from tests.service.engine.test_engine import assert_same, random_work, works

MAX_BATCH = 6


def engine_of(folder: Path, precision: Precision = "float32") -> Engine:
    """As a GPU's, but for the device."""
    bundle = load_bundle(folder, "torch")
    graphs = Graphs(bundle, TorchBackend(bundle, "cpu", 1))
    history = HistoryReader(graphs, groups=one_group)
    return Engine(graphs, index=TorchIndex(graphs, precision), history=history)


def record_for(engine: Engine) -> None:
    record(engine.graphs, cast(TorchIndex, engine.index), MAX_BATCH)


@pytest.fixture(autouse=True)
def every_level_is_logged() -> Iterator[None]:
    """Whatever a test before has set."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module")
def engine(bundle_dir: Path) -> Engine:
    return engine_of(bundle_dir)


@pytest.fixture(scope="module")
def recorded(bundle_dir: Path) -> Engine:
    engine = engine_of(bundle_dir)
    record_for(engine)
    return engine


def test_batches_are_powers_of_two_and_the_largest() -> None:
    assert [batches(most) for most in (1, 2, 6, 64)] == [[1], [2, 1], [6, 4, 2, 1], [64, 32, 16, 8, 4, 2, 1]]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, MAX_BATCH + 1), st.integers(0, 1 << 30))
def test_a_batch_is_answered_as_without_recordings(engine: Engine, recorded: Engine, size: int, seed: int) -> None:
    """Each request too as it is alone, whoever asked before; a batch that is larger than any recording among them."""
    rng = np.random.default_rng(seed)
    batch = [random_work(engine.bundle, rng, jumps=False) for _ in range(size)]
    for work, answer, wanted in zip(batch, recorded.run(batch), engine.run(batch), strict=True):
        assert_same(answer, wanted, 1e-5)
        assert_same(answer, recorded.run([work])[0], 1e-5)


@pytest.mark.parametrize("precision", get_args(Precision))
def test_so_it_is_in_every_precision(bundle_dir: Path, engine: Engine, precision: Precision) -> None:
    recorded = engine_of(bundle_dir, precision)
    record_for(recorded)
    for seed in range(5):
        batch = works(engine.bundle, MAX_BATCH, seed, jumps=False)
        for answer, wanted in zip(recorded.run(batch), engine.run(batch), strict=True):
            assert_same(answer, wanted, 1e-5)


@pytest.mark.parametrize("edits", [1, 7, 8, 9, 65])
def test_edits_that_pad_change_no_feature(recorded: Engine, edits: int) -> None:
    """Not even the one that they name, where it is active."""
    backend, shape = cast(TorchBackend, recorded.backend), recorded.bundle.manifest.shape
    rng, rows = np.random.default_rng(edits), MAX_BATCH - 1

    def inputs(h_BD: torch.Tensor, first: int) -> dict[str, torch.Tensor]:
        """With edits of any kind, of features from `first` on."""
        size = (len(h_BD), edits)
        return {
            "h_BD": h_BD,
            "features_BE": torch.from_numpy(rng.integers(first, shape.features, size)),
            "gains_BE": torch.from_numpy(rng.choice(np.array([0, 1, 2], np.float32), size)),
            "strengths_BE": torch.from_numpy(rng.uniform(-1, 1, size).astype(np.float32)),
        }

    with torch.inference_mode():
        h_BD = torch.from_numpy(rng.standard_normal((2000, shape.hidden), np.float32))
        active = backend.run_directly("edit", *inputs(h_BD, 0).values())[1][:, 0] > 0
        feeds = inputs(h_BD[active][:rows], 1)
        edited_BD, z_BF = backend.run_directly("edit", *feeds.values())
    assert len(z_BF) == rows
    outputs = backend.run("edit", feeds)
    torch.testing.assert_close(outputs["edited_BD"], edited_BD, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(outputs["z_BF"], z_BF, rtol=1e-5, atol=1e-5)


def test_what_fits_a_recording_runs_in_its_size(bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, tuple[int, ...]]] = []
    run, choose = TorchBackend.run_directly, TorchIndex.choose

    def noted_run(backend: TorchBackend, graph: str, *inputs: torch.Tensor) -> Tensors:
        calls.append((graph, tuple(inputs[1].shape)))
        return run(backend, graph, *inputs)

    def noted_choose(index: TorchIndex, query_BD: torch.Tensor, scores_BN: torch.Tensor, k: int) -> Tensors:
        calls.append(("search", (len(query_BD), k)))
        return choose(index, query_BD, scores_BN, k)

    monkeypatch.setattr(TorchBackend, "run_directly", noted_run)
    monkeypatch.setattr(TorchIndex, "choose", noted_choose)
    recorded = engine_of(bundle_dir)
    record_for(recorded)
    calls.clear()
    edits = Edits(np.arange(2), np.ones(2, np.float32), np.ones(2, np.float32))
    work = EngineRequest(np.zeros(0, np.int64), edits)
    recorded.run([work._replace(ids_T=np.arange(length)) for length in (0, 6, 3)])
    assert calls == [("lower", (4, 10)), ("add", (4, 8)), ("search", (4, 32))]


def test_below_the_last_block_edits_and_search_are_recorded(below_the_last_block: Path) -> None:
    engine, recorded = engine_of(below_the_last_block), engine_of(below_the_last_block)
    record_for(recorded)
    assert "lower" not in cast(TorchBackend, recorded.backend).replayed
    batch = works(engine.bundle, MAX_BATCH, 0, jumps=False)
    for answer, wanted in zip(recorded.run(batch), engine.run(batch), strict=True):
        assert_same(answer, wanted, 1e-5)


class OnAGpu(TorchBackend):
    """Says so, and is not."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, "cpu", 1)
        self.device = "cuda"

    def put(self, array: Array) -> torch.Tensor:
        return torch.tensor(array)

    def fetch(self, tensors: Sequence[torch.Tensor]) -> list[Array]:
        return [tensor.numpy() for tensor in tensors]


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[Engine, list[tuple[str, str]]]:
    """An engine as a server with a GPU loads it, and what is logged: severity and event."""
    monkeypatch.setattr(engine_loading, "load_backend", lambda bundle, *options: OnAGpu(bundle))
    with capture_logs() as logs:
        engine = load_engine(folder, EngineOptions(backend="torch", max_batch=MAX_BATCH, **changes))
    return engine, [(entry["log_level"], entry["event"]) for entry in logs if "CUDA" in entry["event"]]


def answers(engine: Engine, batch: list[EngineRequest], wanted: Engine) -> None:
    for answer, other in zip(engine.run(batch), wanted.run(batch), strict=True):
        assert_same(answer, other, 1e-5)


def test_a_server_records_at_start(bundle_dir: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = works(engine.bundle, MAX_BATCH, 1, jumps=False)
    on_gpu, logs = loaded(bundle_dir, monkeypatch)
    assert logs == [("info", "CUDA graphs captured")]
    assert cast(TorchBackend, on_gpu.backend).replayed.keys() == {"lower", "edit", "add"}
    answers(on_gpu, batch, engine)
    on_gpu, logs = loaded(bundle_dir, monkeypatch, cuda_graphs="off")
    assert logs == []
    assert not cast(TorchBackend, on_gpu.backend).replayed
    answers(on_gpu, batch, engine)


def no_capture(recorder: Recorder, run: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
    try:
        raise RuntimeError("operation not permitted when stream is capturing")
    finally:
        raise RuntimeError("capture invalidated")


def wrong_later(recorder: Recorder, run: Callable[[], Tensors]) -> tuple[Callable[[], None], Tensors]:
    """In the end as it should be when it is recorded, and too high from then on."""
    outputs, rises = run(), iter((0, *[1] * 1000))

    def replay() -> None:
        rise = next(rises)
        for output, again in zip(outputs, run(), strict=True):
            output.copy_(again + rise)

    return replay, outputs


@pytest.mark.parametrize(
    ("fault", "why"),
    [(no_capture, "operation not permitted"), (wrong_later, "differs from the golden rows")],
)
def test_where_that_fails_it_says_why_and_serves(
    bundle_dir: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., Any], why: str
) -> None:
    other = engine_of(bundle_dir)
    monkeypatch.setattr(Recorder, "record", fault)
    with capture_logs() as logs:
        record_or_go_on(other.graphs, other.index, MAX_BATCH)
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [("warning", "serving without CUDA graphs")]
    assert why in logs[0]["why"]
    assert not cast(TorchBackend, other.backend).replayed
    assert not cast(TorchIndex, other.index).replayed
    answers(other, works(engine.bundle, MAX_BATCH, 2, jumps=False), engine)


def test_a_bundle_that_is_wrong_is_refused_all_the_same(bundle_dir: Path) -> None:
    other = engine_of(bundle_dir)
    golden = {graph: dict(tensors) for graph, tensors in other.bundle.golden.items()}
    golden["lower"]["h_BD"] = golden["lower"]["h_BD"] + 1
    other.graphs.bundle = replace(other.bundle, golden=golden)
    with capture_logs(), pytest.raises(BundleError, match="h_BD differs"):
        record_or_go_on(other.graphs, other.index, MAX_BATCH)
