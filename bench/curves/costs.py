"""What requests cost in the engine: samples of every curve, taken by turns.

Dimensions: D hidden, E edits, N items, T time, X excluded items.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from bench.curves.curve import Curve, Point
from steersman_service.bundle.bundle import Bundle
from steersman_service.engine.backends.onnx import OnnxBackend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.history import HistoryReader
from steersman_service.engine.index.exact import GraphIndex, Terms
from steersman_service.engine.request import Edits, EngineRequest

K = 20
FEATURES = 8
"""Steered in requests of which other things are measured."""
HISTORY_POINTS = 10
USUAL_EVENTS = 96
CATALOGUES = (1_000, 3_000, 10_000, 30_000, 100_000)
SEEN = 165
FEATURE_EDITS = (0, 1, 2, 4, 8, 16, 32)
CONCEPTS = (0, 1, 2, 3)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
BATCH_ROUNDS = 4
"""Rounds for each one of a batch, of which a sample is all requests of the largest batch."""
KEPT_BYTES = 1 << 30


class Sample(NamedTuple):
    """A point of a curve, and how to measure it."""

    panel: str
    line: str
    x: int
    prepare: Callable[[], object]
    """Untimed, before each run: it also warms what the run will read."""
    run: Callable[[], object]
    requests: int = 1
    """Of a run."""


def measured(samples: Sequence[Sample], rounds: int) -> list[Curve]:
    """Microseconds of processor time a request: medians of `rounds` runs, each round through all samples, so that drift hits all alike."""
    costs: list[list[float]] = [[] for _ in samples]
    for _ in range(rounds):
        for sample, own in zip(samples, costs, strict=True):
            sample.prepare()
            began = time.thread_time()
            sample.run()
            own.append(1e6 * (time.thread_time() - began) / sample.requests)
    lines: dict[tuple[str, str], list[Point]] = {}
    for sample, own in zip(samples, costs, strict=True):
        lines.setdefault((sample.panel, sample.line), []).append(Point(sample.x, statistics.median(own)))
    return [Curve(panel, line, "microseconds", points) for (panel, line), points in lines.items()]


def engine_curves(bundle: Bundle, lengths: Iterable[int], rounds: int) -> list[Curve]:
    """All that the engine costs. `lengths`: of as many windows as the largest batch has.

    Raises SystemExit if the bundle keeps no histories.
    """
    bench = Bench(bundle, OnnxBackend(bundle, threads=1))
    return [
        *measured([*bench.history(), *bench.controls()], rounds),
        *measured([*bench.catalogue()], rounds),
        *measured([*bench.batch(lengths)], -(-rounds // BATCH_ROUNDS)),
    ]


class Bench:
    """Makes the samples. Histories are of random items: what they are does not change what they cost."""

    def __init__(self, bundle: Bundle, backend: OnnxBackend) -> None:
        self._bundle = bundle
        self._backend = backend
        self._rng = np.random.default_rng(0)
        graphs = Graphs(bundle, backend)
        history = HistoryReader(graphs, state_bytes=KEPT_BYTES, kv_bytes=KEPT_BYTES)
        self._plain, self._keeping = Engine(graphs), Engine(graphs, history=history)
        if not history.can_keep:
            raise SystemExit(
                "this bundle has no graphs `keep` and `append`: train it anew, with the hook after the last block"
            )
        self._window = bundle.manifest.window.length

    def history(self) -> Iterator[Sample]:
        """By the number of events, each request steered by some features."""
        for length in np.unique(np.geomspace(1, self._window, HISTORY_POINTS).round().astype(int)).tolist():
            work = self._steered(self._work(length), FEATURES)
            once, kept = partial(self._plain.run, [work]), partial(self._keeping.run, [work])
            sample = partial(Sample, "history length, events", x=length)
            yield sample("computed whole", prepare=once, run=once)
            yield sample("computed whole, and kept", prepare=partial(self._forget, after=kept), run=kept)
            yield sample("one event appended", prepare=partial(self._read_before, [work], kept), run=kept)
            yield sample("state kept: other controls only", prepare=kept, run=kept)

    def controls(self) -> Iterator[Sample]:
        """By the number of features, and of concepts, where the state is computed and where it is kept."""
        plain = self._work(min(USUAL_EVENTS, self._window))
        features = [number for number in FEATURE_EDITS if number <= self._bundle.manifest.shape.features]
        for number in features:
            yield from self._in_both_ways("feature edits", number, self._steered(plain, number))
        for number in (number for number in CONCEPTS if number <= self._bundle.manifest.shape.concepts):
            concepts = plain._replace(concepts_C=np.arange(number), concept_strengths_C=np.ones(number, np.float32))
            yield from self._in_both_ways("concepts", number, concepts)

    def catalogue(self) -> Iterator[Sample]:
        """Search alone, by the number of items: resampled rows of the bundle's table."""
        query_BD = self._backend.put(self._bundle.golden["search"]["query_BD"][:1])
        for size in CATALOGUES:
            rows_N = self._rng.integers(len(self._bundle.items_ND), size=size)
            items_ND, biases_N = self._bundle.items_ND[rows_N], self._bundle.biases_N[rows_N]
            larger = dataclasses.replace(self._bundle, items_ND=items_ND, biases_N=biases_N)
            index = GraphIndex(Graphs(larger, self._backend))
            seen_X = self._rng.choice(size, SEEN, replace=False)
            for line, terms in (("search", Terms()), ("search, seen items excluded", Terms(excluded_X=seen_X))):
                search = partial(index.search, query_BD, [terms], [K])
                yield Sample("catalogue size, items", line, size, search, search)

    def batch(self, lengths: Iterable[int]) -> Iterator[Sample]:
        """By the number of requests computed together, always the same ones."""
        works = [self._work(length) for length in lengths]
        for size in BATCHES:
            parts = [works[begin : begin + size] for begin in range(0, len(works), size)]
            whole, kept = partial(_each, self._plain, parts), partial(_each, self._keeping, parts)
            before = partial(self._read_before, works, kept)
            sample = partial(Sample, "batch, requests", x=size, requests=len(works))
            yield sample("computed whole", prepare=lambda: None, run=whole)
            yield sample("one event appended", prepare=before, run=kept)

    def _in_both_ways(self, panel: str, number: int, work: EngineRequest) -> Iterator[Sample]:
        once, kept = partial(self._plain.run, [work]), partial(self._keeping.run, [work])
        yield Sample(panel, f"history of {len(work.ids_T)} computed", number, once, once)
        yield Sample(panel, "state kept", number, kept, kept)

    def _work(self, length: int) -> EngineRequest:
        items = len(self._bundle.items_ND)
        ids_T = self._rng.integers(items, size=length)
        return EngineRequest(ids_T, k=min(K, items), grows=True)

    def _steered(self, work: EngineRequest, number: int) -> EngineRequest:
        number = min(number, self._bundle.manifest.shape.features)
        return work._replace(
            edits=Edits(np.arange(number), np.ones(number, np.float32), np.full(number, 0.5, np.float32))
        )

    def _forget(self, after: Callable[[], object] = lambda: None) -> None:
        after()
        self._keeping.states.clear()
        self._keeping.key_values.clear()

    def _read_before(self, works: Sequence[EngineRequest], then: Callable[[], object]) -> None:
        """Everything but the last events, twice: in between, `then` appends these once, to warm what appends."""
        before = [work._replace(ids_T=work.ids_T[:-1]) for work in works]
        for warm in (then, lambda: None):
            self._forget()
            self._keeping.run(before)
            warm()


def _each(engine: Engine, parts: Iterable[Sequence[EngineRequest]]) -> None:
    for part in parts:
        engine.run(part)
