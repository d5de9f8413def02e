"""The torch backend and its index: what a GPU will run, on the CPU."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from steersman_service.bundle.bundle import load_bundle
from steersman_service.engine.backends.torchscript import TorchBackend, move
from steersman_service.engine.engine import Engine
from steersman_service.engine.golden import replay_search
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.index.on_torch import TorchIndex, best
from steersman_service.engine.options import Precision
from steersman_service.errors import BundleError, StartupError
from tests.service.engine.test_engine import assert_same, works
from tests.serving import serving, settings_for

PRECISIONS = get_args(Precision)


@pytest.fixture(scope="module")
def engine(bundle_dir: Path) -> Engine:
    bundle = load_bundle(bundle_dir, "torch")
    return Engine(Graphs(bundle, TorchBackend(bundle, "cpu", 1)))


def with_index(engine: Engine, precision: Precision) -> Engine:
    return Engine(engine.graphs, index=TorchIndex(engine.graphs, precision))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_graphs_run_where_they_are_moved_and_do_not_wait(bundle_dir: Path) -> None:
    """On `meta`, tensors have no values: to meet one on the CPU fails, and so does to wait for one, as a GPU's capture would."""
    bundle = load_bundle(bundle_dir, "torch")
    tables = {"items_ND": bundle.items_ND, "biases_N": bundle.biases_N}
    # Which takes k, a value, and which a GPU does without.
    for name in bundle.graphs.keys() - {"search"}:
        graph = bundle.graphs[name]
        inputs = [
            torch.tensor({**tables, **bundle.golden[name]}[tensor.name], device="meta") for tensor in graph.inputs
        ]
        module: Any = torch.jit.load(bundle_dir / f"{name}.ts")
        move(module, "meta")
        outputs = module(*inputs)
        for tensor, output in zip(graph.outputs, (outputs,) if torch.is_tensor(outputs) else outputs, strict=True):
            assert output.is_meta
            assert output.shape == bundle.golden[name][tensor.name].shape


@given(st.data())
def test_the_best_by_chunks_are_the_best(data: st.DataObject) -> None:
    """Scores of few different values, some of items that may not be returned."""
    size, chunk = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 9))
    k = data.draw(st.integers(1, min(size, 12)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    scores_BN = rng.choice(np.array([-np.inf, 0, 1, 2, 3], np.float32), (3, size), p=rng.dirichlet(np.ones(5)))
    found = best(torch.from_numpy(scores_BN), k, chunk)
    rows_BK = np.argsort(-scores_BN, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found.rows_BK, rows_BK)
    np.testing.assert_array_equal(found.scores_BK, np.take_along_axis(scores_BN, rows_BK, 1))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_engine_answers_as_with_the_bundles_graph(engine: Engine, precision: Precision) -> None:
    batch = works(engine.bundle, 32, seed=5, jumps=False)
    indexed = with_index(engine, precision)
    for work, answer, wanted in zip(batch, indexed.run(batch), engine.run(batch), strict=True):
        assert_same(answer, wanted, 1e-5)
        assert_same(answer, indexed.run([work])[0], 1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_of_many_items_too(engine: Engine, precision: Precision) -> None:
    """More than the candidates of half precision, and more than are sorted at once."""
    rng, size = np.random.default_rng(0), 5000
    items_ND = rng.standard_normal((size, engine.bundle.items_ND.shape[1]), np.float32)
    many = replace(engine.bundle, items_ND=items_ND, biases_N=rng.standard_normal(size, np.float32))
    plain = Engine(Graphs(many, engine.backend))
    batch = [
        work._replace(
            concepts_C=work.concepts_C[:0],
            concept_strengths_C=work.concept_strengths_C[:0],
            k=10,
            eligible_N=None if work.eligible_N is None else rng.random(size) < rng.choice([0.001, 0.5]),
            tilts_N=None if work.tilts_N is None else rng.uniform(-2, 2, size).astype(np.float32),
        )
        for work in works(engine.bundle, 32, seed=6, jumps=False)
    ]
    for answer, wanted in zip(with_index(plain, precision).run(batch), plain.run(batch), strict=True):
        assert_same(answer, wanted, 1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_golden_rows_are_found_again(engine: Engine, precision: Precision) -> None:
    replay_search(engine.graphs, TorchIndex(engine.graphs, precision), precision)
    spoilt = Graphs(replace(engine.bundle, biases_N=engine.bundle.biases_N + np.float32(0.01)), engine.backend)
    with pytest.raises(BundleError, match=f"search, {precision}.*scores_BK differs"):
        replay_search(spoilt, TorchIndex(spoilt, precision), precision)


def test_a_server_in_half_precision(bundle_dir: Path, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, bundle_dir, backend="torch", precision="bfloat16")):
        pass


def test_half_precision_needs_torch(bundle_dir: Path, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, bundle_dir, precision="float16")
    with pytest.raises(StartupError, match="precision float16: the onnx backend"), serving(settings):
        pass
