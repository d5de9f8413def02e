"""An answer depends on its own request alone, and is the same on every backend."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.v1.bundle_pb2 import Manifest
from steersman.v1.bundle_pb2 import Tensor as TensorSpec
from steersman_service.bundle.bundle import ADD, Array, Bundle, load_bundle
from steersman_service.engine.backends.onnx import OnnxDeviceBackend
from steersman_service.engine.backends.protocol import Backend, Tensor, load_backend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.groups import length_groups, one_group
from steersman_service.engine.history import HistoryReader
from steersman_service.engine.index import exact as index_exact
from steersman_service.engine.index.large import LargeIndex
from steersman_service.engine.loading import load_engine
from steersman_service.engine.observer import Silent
from steersman_service.engine.options import EngineOptions
from steersman_service.engine.request import NO_EDITS, Cost, Edits, EngineRequest, EngineResult
from steersman_service.engine.steering import SOLVED_BYTES
from steersman_service.errors import BundleError
from tests.service.bundle.test_bundle import resign

# The code for GPUs, on a CPU.
ON_DEVICE = "onnx on a device"
BACKENDS = ["onnx", "torch", ON_DEVICE]
# Where an autoencoder's k-th activation and the next one are closer than this, backends may keep either.
THRESHOLD_GAP = 1e-4
GROUPS: dict[str, Callable[[Array], list[Array]]] = {
    "one group": one_group,
    "cheapest groups": lambda lengths_B: length_groups(lengths_B, most_positions=60),
    "a group a length": lambda lengths_B: length_groups(lengths_B, call_positions=0),
}
# Bytes: none, a few histories, and more than there are.
CACHES = [0, 1000, 1 << 20]


@pytest.fixture(scope="module")
def engines(bundle: Bundle) -> dict[str, Engine]:
    return {name: engine_of(bundle, backend_of(bundle, name)) for name in BACKENDS}


def engine_of(bundle: Bundle, backend: Backend, **options: Any) -> Engine:
    return Engine(Graphs(bundle, backend), **options)


def backend_of(bundle: Bundle, name: str) -> Backend:
    return OnnxDeviceBackend(bundle, 1, "cpu") if name == ON_DEVICE else load_backend(bundle, name, "cpu", 1)


@pytest.fixture(scope="module", params=BACKENDS)
def engine(request: pytest.FixtureRequest, engines: dict[str, Engine]) -> Engine:
    return engines[request.param]


class Counting:
    """A backend that notes, for every call, the shape of something that has a row for each request."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.device = backend.name, backend.device
        self.put, self.get, self.fetch, self.take = backend.put, backend.get, backend.fetch, backend.take
        self._run = backend.run
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self.widths: list[tuple[str, dict[str, tuple[int, ...]]]] = []
        """Graph -> the shapes of what it was fed that says what a request wants."""

    def run(self, graph: str, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        per_request = (tensor for name, tensor in feeds.items() if name.rpartition("_")[2].startswith("B"))
        self.calls.append((graph, self.get(next(per_request)).shape))
        asked = {name: self.get(feeds[name]).shape for name in ("concepts_BC", "features_BE") if name in feeds}
        self.widths.append((graph, asked))
        return self._run(graph, feeds)

    def rows(self) -> dict[str, list[int]]:
        """Graph -> the rows of each of its calls."""
        return {graph: [shape[0] for name, shape in self.calls if name == graph] for graph, _ in self.calls}


def with_options(engine: Engine, groups: str, cache_bytes: int) -> Engine:
    history = HistoryReader(engine.graphs, state_bytes=cache_bytes, groups=GROUPS[groups])
    return Engine(engine.graphs, history=history)


def random_work(bundle: Bundle, rng: np.random.Generator, *, jumps: bool = True) -> EngineRequest:
    """A request of any kind; without `jumps`, only edits of gain 1."""
    shape = bundle.manifest.shape
    edits, concepts = int(rng.integers(4)), int(rng.integers(3))
    gains = rng.choice([1.0, 0.0, 2.0], edits) if jumps else np.ones(edits)
    filtered, excluded = rng.random() < 0.7, int(rng.integers(4))
    return EngineRequest(
        rng.integers(shape.items, size=rng.integers(bundle.manifest.window.length + 1)),
        Edits(
            rng.integers(shape.features, size=edits),
            gains.astype(np.float32),
            rng.uniform(-2, 2, edits).astype(np.float32),
        ),
        rng.integers(shape.concepts, size=concepts),
        rng.uniform(-1, 1, concepts).astype(np.float32),
        rng.random(shape.items) < rng.choice([0.05, 0.9]) if filtered else None,
        int(rng.integers(1, shape.items + 5)),
        rng.uniform(-2, 2, shape.items).astype(np.float32) if rng.random() < 0.5 else None,
        rng.choice(shape.items, excluded, replace=False),
    )


def eligible(work: EngineRequest, size: int) -> Array:
    """Which of the `size` items may be returned."""
    mask_N = np.ones(size, bool) if work.eligible_N is None else work.eligible_N.copy()
    mask_N[work.excluded_X] = False
    return mask_N


def works(bundle: Bundle, count: int, seed: int, *, jumps: bool = True) -> list[EngineRequest]:
    rng = np.random.default_rng(seed)
    return [random_work(bundle, rng, jumps=jumps) for _ in range(count)]


def with_repeats(batch: list[EngineRequest], rng: np.random.Generator) -> list[EngineRequest]:
    """Some of them with the history of another one."""
    return [
        work._replace(ids_T=batch[rng.integers(len(batch))].ids_T.copy()) if rng.random() < 0.4 else work
        for work in batch
    ]


def assert_same(one: EngineResult, other: EngineResult, tolerance: float) -> None:
    """The same items with the same scores; only items closer than the tolerance may change places."""
    scores = dict(zip(other.rows_K.tolist(), other.scores_K.tolist(), strict=True))
    scale = max(1.0, float(np.abs(one.scores_K).max(initial=0)))
    assert len(one.rows_K) == len(other.rows_K)
    np.testing.assert_allclose(one.scores_K, other.scores_K, atol=tolerance * scale)
    for row, score, place in zip(one.rows_K.tolist(), one.scores_K.tolist(), other.scores_K.tolist(), strict=True):
        # An item that is missing on the other side lost the last place to one that is as good.
        assert abs(scores.get(row, place) - score) <= tolerance * scale
    assert len(one.concept_edits) == len(other.concept_edits)
    for edits, others in zip(one.concept_edits, other.concept_edits, strict=True):
        # Solving for strengths enlarges what rounding does to the state; the scores that come of them agree all the same.
        # A strength of exactly zero is left out, and is next to zero on the other side.
        ours, theirs = (dict(zip(e.features_E.tolist(), e.strengths_E.tolist(), strict=True)) for e in (edits, others))
        bound = 10 * tolerance * magnitude(edits)
        assert all(abs(ours.get(f, 0) - theirs.get(f, 0)) <= bound for f in ours.keys() | theirs.keys())


def without(bundle: Bundle, *names: str) -> Bundle:
    """A bundle that lacks some graphs."""
    manifest = Manifest()
    manifest.CopyFrom(bundle.manifest)
    del manifest.graphs[:]
    manifest.graphs.extend(graph for graph in bundle.manifest.graphs if graph.name not in names)
    return dataclasses.replace(bundle, manifest=manifest)


def without_controls(work: EngineRequest) -> EngineRequest:
    nothing, no_strengths = NO_EDITS.features_E, NO_EDITS.strengths_E
    return work._replace(edits=NO_EDITS, concepts_C=nothing, concept_strengths_C=no_strengths, tilts_N=None)


def magnitude(edits: Edits) -> float:
    return max(1.0, float(np.abs(edits.strengths_E).max(initial=0)))


def test_a_mixed_batch_equals_single_calls(engine: Engine) -> None:
    batch = works(engine.bundle, 64, seed=1)
    together = engine.run(batch)
    for work, answer in zip(batch, together, strict=True):
        assert_same(answer, engine.run([work])[0], 1e-5)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("cache_bytes", CACHES)
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 24))
def test_alone_equals_batched_equals_cached(
    engine: Engine, groups: str, cache_bytes: int, seed: int, size: int
) -> None:
    """In one batch, in part of it, and in another order, when all states may have been kept."""
    rng = np.random.default_rng(seed)
    batch = with_repeats(works(engine.bundle, size, seed, jumps=False), rng)
    alone = [engine.run([work])[0] for work in batch]
    other = with_options(engine, groups, cache_bytes)
    for order in (range(size), rng.permutation(size)[: 1 + size // 2].tolist(), rng.permutation(size).tolist()):
        for row, answer in zip(order, other.run([batch[row] for row in order]), strict=True):
            assert_same(answer, alone[row], 1e-5)
    assert other.states.held_bytes <= cache_bytes


@pytest.mark.parametrize("backend", BACKENDS)
def test_alone_equals_batched_where_the_hook_is_below_the_last_block(below_the_last_block: Path, backend: str) -> None:
    """States alone are not enough there: nothing is grouped or kept, whatever is set."""
    bundle = load_bundle(below_the_last_block, "torch" if backend == "torch" else "onnx")
    graphs = Graphs(bundle, backend_of(bundle, backend))
    engine = Engine(graphs, history=HistoryReader(graphs, state_bytes=1 << 20))
    batch = with_repeats(works(bundle, 32, seed=9, jumps=False), np.random.default_rng(9))
    for _ in range(2):
        for work, answer in zip(batch, engine.run(batch), strict=True):
            assert_same(answer, engine.run([work])[0], 1e-5)
    assert engine.states.held_bytes == 0


@pytest.mark.parametrize("approximate", [True, False])
def test_the_index_that_export_built_answers_as_the_graph(below_the_last_block: Path, approximate: bool) -> None:
    bundle = load_bundle(below_the_last_block, "onnx")
    backend = load_backend(bundle, "onnx", "cpu", 1)
    index = LargeIndex(bundle, backend, 1, approximate=approximate)
    plain, indexed = engine_of(bundle, backend), engine_of(bundle, backend, index=index)
    assert {"plain", "steered"} == bundle.manifest.index.efforts[0].recall.keys()
    assert bundle.manifest.figures["index.recall_at_20"] >= 0.99
    batch, hits = works(bundle, 32, seed=9), []
    for work, answer, wanted in zip(batch, indexed.run(batch), plain.run(batch), strict=True):
        if approximate and work.tilts_N is None and work.eligible_N is None:
            assert len(answer.rows_K) == len(wanted.rows_K)
            hits.append(np.isin(wanted.rows_K, answer.rows_K).mean())
        else:
            assert_same(answer, wanted, 1e-5)
    assert not approximate or np.mean(hits) > 0.9


def test_graphs_run_for_those_requests_alone_that_ask_for_them(engine: Engine) -> None:
    bundle = engine.bundle
    plain = [without_controls(work)._replace(ids_T=np.full(20, row)) for row, work in enumerate(works(bundle, 8, 10))]
    edits = Edits(np.array([1, 2]), np.ones(2, np.float32), np.ones(2, np.float32))
    concept = plain[4]._replace(concepts_C=np.array([0]), concept_strengths_C=np.ones(1, np.float32))
    backend = Counting(engine.backend)
    counted = engine_of(bundle, backend)
    counted.run([*plain[:3], plain[3]._replace(edits=edits), concept, plain[5]._replace(edits=edits)])
    # The search for candidates comes first.
    assert backend.rows() == {"lower": [6], "search": [1, 6], "concept": [1], "add": [3]}
    backend.calls.clear()
    counted.run(plain)
    assert backend.rows() == {"lower": [8], "search": [8]}
    backend.calls.clear()
    # Activations are computed where any edit asks for them.
    scaled = plain[1]._replace(edits=edits._replace(gains_E=np.array([1.0, 2.0], np.float32)))
    counted.run([plain[0]._replace(edits=edits), scaled])
    assert backend.rows() == {"lower": [2], "search": [2], "edit": [2]}


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 6))
def test_edits_that_only_add_are_what_edits_are(engine: Engine, seed: int, size: int) -> None:
    batch = [
        without_controls(work)._replace(edits=work.edits) for work in works(engine.bundle, size, seed, jumps=False)
    ]
    bundle = without(engine.bundle, ADD)
    for one, other in zip(engine.run(batch), engine_of(bundle, engine.backend).run(batch), strict=True):
        assert_same(one, other, 1e-5)


class NotesHits(Silent):
    def __init__(self) -> None:
        self.hits_and_misses: list[tuple[int, int]] = []

    def state_cache(self, hits: int, misses: int) -> None:
        self.hits_and_misses.append((hits, misses))


def test_a_history_is_computed_once(engine: Engine) -> None:
    first, second, third = (without_controls(work) for work in works(engine.bundle, 3, seed=11))
    first = first._replace(ids_T=np.arange(5))
    third = third._replace(ids_T=first.ids_T.copy(), k=1)
    backend = Counting(engine.backend)
    graphs, noted = Graphs(engine.bundle, backend), NotesHits()
    counted = Engine(graphs, history=HistoryReader(graphs, state_bytes=1 << 20, observer=noted))
    counted.run([first, second, third])
    assert sum(backend.rows()["lower"]) == 2
    backend.calls.clear()
    edits = Edits(np.array([1]), np.ones(1, np.float32), np.ones(1, np.float32))
    counted.run([third._replace(edits=edits), second])
    assert backend.rows() == {"search": [2], "add": [1]}, "other controls: only what follows the state"
    backend.calls.clear()
    counted.run([first._replace(ids_T=np.append(first.ids_T, 0)), first])
    assert backend.rows()["lower"] == [1]
    assert noted.hits_and_misses == [(1, 2), (2, 0), (1, 1)]


def test_padding_is_not_computed_where_another_call_is_cheaper(engine: Engine) -> None:
    histories = [np.arange(1), np.arange(20), np.arange(0), np.arange(20) + 1, np.arange(1) + 1]
    batch = [
        without_controls(work)._replace(ids_T=ids_T)
        for ids_T, work in zip(histories, works(engine.bundle, 5, seed=12), strict=True)
    ]
    backend = Counting(engine.backend)
    engine_of(engine.bundle, backend).run(batch)
    assert [shape for graph, shape in backend.calls if graph == "lower"] == [(2, 20), (3, 1)]


def test_no_row_feels_anothers_controls(engine: Engine) -> None:
    """The same request beside different ones, all of the same shape."""
    plain, *others = works(engine.bundle, 17, seed=2)
    plain = without_controls(plain)
    alone = engine.run([plain] * 17)[0]
    assert_same(engine.run([plain, *others])[0], alone, 1e-5)


def test_backends_agree(engines: dict[str, Engine]) -> None:
    batch = works(engines["onnx"].bundle, 64, seed=3, jumps=False)
    onnx, torch = (engines[name].run(batch) for name in ("onnx", "torch"))
    for one, other in zip(onnx, torch, strict=True):
        assert_same(one, other, 1e-4)


def test_backends_agree_on_gains_away_from_the_threshold(engines: dict[str, Engine]) -> None:
    batch = [work for work in works(engines["onnx"].bundle, 64, seed=4) if len(work.edits.features_E)]
    kept = [work for work, near in zip(batch, near_threshold(engines["onnx"], batch), strict=True) if not near]
    assert len(kept) >= 0.8 * len(batch), "too many rows lie at the threshold to say anything"
    onnx, torch = (engines[name].run(kept) for name in ("onnx", "torch"))
    for one, other in zip(onnx, torch, strict=True):
        assert_same(one, other, 1e-4)


def near_threshold(engine: Engine, batch: Sequence[EngineRequest]) -> list[bool]:
    """Whether the least activation that was kept is so small, or so near to being dropped, that backends may differ."""
    flips = []
    for work in batch:
        length = max(1, len(work.ids_T))
        ids = np.zeros((1, length), np.int64)
        ids[0, : len(work.ids_T)] = work.ids_T
        lower = engine.graphs.replay("lower", {"ids_BT": ids, "lengths_B": np.array([len(work.ids_T)])})
        state = lower["h_BD"]
        nothing: dict[str, Array] = {
            "features_BE": np.zeros((9, 1), np.int64),
            "gains_BE": np.ones((9, 1), np.float32),
            "strengths_BE": np.zeros((9, 1), np.float32),
        }
        noise = np.random.default_rng(0).normal(0, THRESHOLD_GAP, (9, state.shape[1]))
        noise[0] = 0
        active = engine.graphs.replay("edit", {"h_BD": (state + noise).astype(np.float32), **nothing})["z_BF"] > 0
        flips.append(bool((active != active[0]).any()))
    return flips


def test_no_control_gives_the_unsteered_scores_value_for_value(engine: Engine) -> None:
    """Three ways to say nothing: no edit, padding, and a neighbour that makes the batch run the edit graph."""
    bundle = engine.bundle
    bare = [without_controls(work) for work in works(bundle, 8, seed=5)]
    padding = Edits(np.zeros(2, np.int64), np.ones(2, np.float32), np.zeros(2, np.float32))
    untilted_N = np.zeros(len(bundle.items_ND), np.float32)
    plain, padded = engine.run(bare), engine.run([work._replace(edits=padding, tilts_N=untilted_N) for work in bare])
    for one, other in zip(plain, padded, strict=True):
        np.testing.assert_array_equal(one.rows_K, other.rows_K)
        np.testing.assert_array_equal(one.scores_K, other.scores_K)


def test_scores_are_those_of_the_item_table(engine: Engine) -> None:
    """The plain path: lower, upper, then a product with the whole table in numpy."""
    bundle, work = engine.bundle, works(engine.bundle, 1, seed=6)[0]
    work = without_controls(work)._replace(ids_T=np.arange(7), k=len(bundle.items_ND))
    work = work._replace(eligible_N=None, excluded_X=NO_EDITS.features_E)
    pool = {"ids_BT": work.ids_T[None], "lengths_B": np.array([7])}
    pool |= engine.graphs.replay("lower", pool)
    wanted = [tensor.name for tensor in bundle.graphs["upper"].inputs]
    query_D = engine.graphs.replay("upper", {name: pool[name] for name in wanted})["query_BD"][0]
    scores_N = bundle.items_ND @ query_D + bundle.biases_N
    answer = engine.run([work])[0]
    np.testing.assert_allclose(answer.scores_K, np.sort(scores_N)[::-1], rtol=1e-5, atol=1e-5)
    tilts_N = np.random.default_rng(6).uniform(-2, 2, len(scores_N)).astype(np.float32)
    tilted = engine.run([work._replace(tilts_N=tilts_N)])[0]
    np.testing.assert_allclose(tilted.scores_K, (scores_N + tilts_N)[tilted.rows_K], rtol=1e-5, atol=1e-5)
    assert (np.diff(tilted.scores_K) <= 0).all()


def with_concepts(work: EngineRequest, rng: np.random.Generator) -> EngineRequest:
    """Up to four of them, as strong as a request may want them, or of no strength at all."""
    count = int(rng.integers(1, 5))
    strengths = rng.choice([-10, -1, 0, 0.5, 1, 10], count).astype(np.float32)
    return work._replace(concepts_C=rng.integers(4, size=count), concept_strengths_C=strengths)


def rounding(work: EngineRequest) -> float:
    """The stronger a concept, the further it carries the rounding of the candidates' scores: at strength 10 up to 5e-5 was seen."""
    return 1e-4 if (np.abs(work.concept_strengths_C) > 1).any() else 1e-5


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_rounding_does_not_decide_which_candidates_a_concept_has(engine: Engine, seed: int) -> None:
    """Every item has a twin whose scores are its own but for rounding, above them or below: often one of both is the last candidate."""
    rng = np.random.default_rng(seed)
    batch = [with_concepts(work, rng)._replace(tilts_N=None, edits=NO_EDITS) for work in works(engine.bundle, 6, seed)]
    answers = []
    for nudge in (-2e-7, 2e-7):
        items_ND, biases_N = engine.bundle.items_ND.copy(), engine.bundle.biases_N.copy()
        items_ND[1::2], biases_N[1::2] = items_ND[::2], biases_N[::2] + np.float32(nudge)
        twins = dataclasses.replace(engine.bundle, items_ND=items_ND, biases_N=biases_N)
        answers.append(engine_of(twins, engine.backend).run(batch))
    for work, one, other in zip(batch, *answers, strict=True):
        assert_same(one._replace(concept_edits=[]), other._replace(concept_edits=[]), rounding(work))


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 24), most=st.sampled_from([1, 3, 5, 40]))
def test_a_batch_whose_concepts_take_much_memory_is_computed_in_parts(
    engine: Engine, seed: int, size: int, most: int
) -> None:
    """As each request would be alone; and never more is solved, or edited, at once than is allowed."""
    rng, hidden = np.random.default_rng(seed), engine.bundle.manifest.shape.hidden
    batch = [with_concepts(work, rng) if rng.random() < 0.7 else work for work in works(engine.bundle, size, seed)]
    part_bytes = most * SOLVED_BYTES * engine.bundle.golden["concept"]["candidates_BK"].shape[1]
    backend = Counting(engine.backend)
    together = engine_of(engine.bundle, backend, part_bytes=part_bytes).run(batch)
    for work, answer in zip(batch, together, strict=True):
        assert_same(answer, engine.run([work])[0], rounding(work))
    for graph, fed in backend.widths:
        if graph == "concept":
            rows, width = fed["concepts_BC"]
            assert rows * width <= most
        elif graph in ("edit", ADD):
            rows, width = fed["features_BE"]
            assert rows == 1 or rows * width * hidden * 4 <= part_bytes


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(2, 24), most=st.integers(1, 5))
def test_a_batch_whose_scores_take_much_memory_is_searched_in_parts(
    engine: Engine, seed: int, size: int, most: int
) -> None:
    batch = works(engine.bundle, size, seed)
    backend = Counting(engine.backend)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_exact, "CALL_BYTES", most * 4 * len(engine.bundle.items_ND))
        together = engine_of(engine.bundle, backend).run(batch)
    for work, answer in zip(batch, together, strict=True):
        assert_same(answer, engine.run([work])[0], 1e-5)
    assert max(backend.rows()["search"]) <= most


def test_a_request_costs_what_it_asks_for(engine: Engine) -> None:
    """And less once its history is known."""
    graphs, items = engine.graphs, len(engine.bundle.items_ND)
    own = Engine(graphs, history=HistoryReader(graphs, state_bytes=1 << 20, kv_bytes=1 << 20))
    plain = EngineRequest(np.arange(7), grows=True)
    filtered = plain._replace(eligible_N=np.ones(items, bool))

    def with_three(request: EngineRequest) -> EngineRequest:
        return request._replace(concepts_C=np.arange(3), concept_strengths_C=np.ones(3, np.float32))

    assert own.cost(plain) == Cost(1, 7, 0, 0)
    assert own.cost(filtered._replace(tilts_N=np.zeros(items, np.float32))) == Cost(1, 7, 0, 2)
    assert own.cost(with_three(plain)) == Cost(1, 7, 3, 1)
    assert own.cost(with_three(filtered)) == Cost(1, 7, 3, 3)
    own.run([plain])
    assert own.cost(plain).positions == 0
    assert own.cost(plain._replace(ids_T=np.arange(9))).positions == (2 if own.history.can_keep else 9)


class NotesCandidates:
    """A backend that notes what its concept graph is given, and computes nothing there."""

    def __init__(self, backend: Backend, shape: tuple[int, int]) -> None:
        self.name, self.device = backend.name, backend.device
        self.put, self.get, self.fetch, self.take = backend.put, backend.get, backend.fetch, backend.take
        self.backend = backend
        self.noted: dict[str, Array] = {}
        self._padding: dict[str, Array] = {
            "concept_features_BE": np.zeros(shape, np.int64),
            "concept_gains_BE": np.ones(shape, np.float32),
            "concept_edits_BE": np.zeros(shape, np.float32),
        }

    def run(self, graph: str, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if graph != "concept":
            return self.backend.run(graph, feeds)
        self.noted = {name: self.get(tensor) for name, tensor in feeds.items()}
        return {name: self.put(array) for name, array in self._padding.items()}


@pytest.mark.parametrize("asked", [("candidates_BK",), ("candidates_BK", "candidate_scores_BK")])
def test_candidates_of_concepts_are_the_best_items_without_any_control(engine: Engine, asked: tuple[str, ...]) -> None:
    bundle, count = engine.bundle, 7
    batch = [work for work in works(bundle, 32, seed=8) if len(work.concepts_C)]
    assert any(work.tilts_N is not None for work in batch)
    assert any(eligible(work, len(bundle.items_ND)).sum() < count for work in batch)
    manifest = without(bundle).manifest
    (concept,) = (graph for graph in manifest.graphs if graph.name == "concept")
    del concept.inputs[:]
    concept.inputs.extend(TensorSpec(name=name) for name in asked)
    golden = {**bundle.golden, "concept": {**bundle.golden["concept"], "candidates_BK": np.zeros((2, count), np.int64)}}
    width = max(len(work.concepts_C) for work in batch)
    backend = NotesCandidates(engine.backend, (len(batch), width))
    engine_of(dataclasses.replace(bundle, manifest=manifest, golden=golden), backend).run(batch)
    assert backend.noted.keys() == set(asked)
    for row, work in enumerate(batch):
        plain = engine.run([without_controls(work)._replace(k=count)])[0]
        best = len(plain.rows_K)
        assert backend.noted["candidates_BK"][row, :best].tolist() == plain.rows_K.tolist()
        if "candidate_scores_BK" in asked:
            scores_K = backend.noted["candidate_scores_BK"][row]
            np.testing.assert_allclose(scores_K[:best], plain.scores_K, rtol=1e-5, atol=1e-5)
            assert (scores_K[best:] == -np.inf).all(), "what is not eligible can be told from what is"


def test_only_eligible_items_come_back_and_as_many_as_there_are(engine: Engine) -> None:
    for work, answer in zip(batch := works(engine.bundle, 32, seed=7), engine.run(batch), strict=True):
        eligible_N = eligible(work, len(engine.bundle.items_ND))
        assert eligible_N[answer.rows_K].all()
        assert len(answer.rows_K) == min(work.k, eligible_N.sum())


def test_equal_scores_break_by_row(engine: Engine) -> None:
    shape = engine.bundle.manifest.shape
    inputs = {
        "query_BD": np.zeros((1, shape.hidden), np.float32),
        "eligible_BN": np.ones((1, shape.items), bool),
        "tilts_BN": -engine.bundle.biases_N[None],
        "k": np.array(shape.items),
    }
    assert engine.graphs.replay("search", inputs)["rows_BK"][0].tolist() == list(range(shape.items))


def test_concepts_below_the_last_block_have_the_strengths_of_their_rows(
    below_the_last_block: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(below_the_last_block, tmp_path / "below"))
    table = pq.read_table(copy / "concepts.parquet")
    rows = table.to_pylist()
    rows[0]["weights"] = [weight + 0.1 for weight in rows[0]["weights"]]
    load_engine(copy, EngineOptions(max_batch=1))
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), copy / "concepts.parquet")
    resign(copy)
    with pytest.raises(BundleError, match=r"edits feature \d+ by .*, its row says"):
        load_engine(copy, EngineOptions(max_batch=1))
