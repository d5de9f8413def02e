"""What a request costs in the engine, alone and in company: each pair of ways is measured by turns in the same run.

make bench-engine

Histories are of mixed lengths, evenly spread up to the window's. One thread computes. The last line tells what a call of
`lower` costs beside its positions, in positions: `CALL_POSITIONS` of groups.py.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_service.engine.backends.onnx import OnnxBackend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.groups import one_group
from steersman_service.engine.history import HistoryReader
from steersman_service.engine.request import Edits, EngineRequest

REQUESTS = 64
FEATURES = 8


def main() -> None:
    """Prints the median milliseconds of both ways of each pair, and their ratio pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle, "onnx")
    engine = Engine(Graphs(bundle, OnnxBackend(bundle, threads=1)))
    rng = np.random.default_rng(0)
    plain = _plain(bundle, rng)
    edited = [work._replace(edits=_edits(bundle, rng)) for work in plain]
    concept = [
        work._replace(concepts_C=np.zeros(1, np.int64), concept_strengths_C=np.ones(1, np.float32)) for work in plain
    ]
    shape = bundle.manifest.shape
    print(f"{REQUESTS} requests, N={shape.items}, D={shape.hidden}, windows of 1 to {bundle.manifest.window.length}")
    print(f"{'':48} {'ms':>8} {'ms':>8}   ratio: min, median, max")
    for name, slow, fast in (
        ("one by one / one batch", _each(engine, plain), _batch(engine, plain)),
        ("one batch, one group / in groups", _in_one_group(engine, plain), _batch(engine, plain)),
        (f"{FEATURES} features / plain, one by one", _each(engine, edited), _each(engine, plain)),
        (f"{FEATURES} features / plain, one batch", _batch(engine, edited), _batch(engine, plain)),
        ("one concept / plain, one by one", _each(engine, concept), _each(engine, plain)),
        ("one concept / plain, one batch", _batch(engine, concept), _batch(engine, plain)),
        ("full / other controls only, one by one", _each(engine, edited), _each(_knowing(engine, plain), edited)),
        ("full / other controls only, one batch", _batch(engine, edited), _batch(_knowing(engine, plain), edited)),
    ):
        _compare(name, slow, fast, arguments.rounds)
    print(f"a call of lower costs {_call_positions(engine, arguments.rounds):.0f} positions")


def _plain(bundle: Bundle, rng: np.random.Generator) -> list[EngineRequest]:
    items, window = len(bundle.items_ND), bundle.manifest.window.length
    everything = np.ones(items, np.bool_)
    return [
        EngineRequest(rng.integers(items, size=length), eligible_N=everything, k=min(10, items))
        for length in rng.integers(1, window + 1, size=REQUESTS)
    ]


def _edits(bundle: Bundle, rng: np.random.Generator) -> Edits:
    features_E = rng.choice(bundle.manifest.shape.features, FEATURES, replace=False)
    return Edits(features_E, np.ones(FEATURES, np.float32), np.full(FEATURES, 0.5, np.float32))


def _knowing(engine: Engine, works: Sequence[EngineRequest]) -> Engine:
    """An engine that has kept the states of these requests."""
    other = Engine(engine.graphs, history=HistoryReader(engine.graphs, state_bytes=1 << 30))
    other.run(works)
    return other


def _each(engine: Engine, works: Sequence[EngineRequest]) -> Callable[[], object]:
    return lambda: [engine.run([work]) for work in works]


def _batch(engine: Engine, works: Sequence[EngineRequest]) -> Callable[[], object]:
    return lambda: engine.run(works)


def _in_one_group(engine: Engine, works: Sequence[EngineRequest]) -> Callable[[], object]:
    other = Engine(engine.graphs, history=HistoryReader(engine.graphs, groups=one_group))
    return lambda: other.run(works)


def _compare(name: str, slow: Callable[[], object], fast: Callable[[], object], rounds: int) -> None:
    pairs = [(_seconds(slow), _seconds(fast)) for _ in range(rounds)]
    ratios = [one / other for one, other in pairs]
    one, other = (statistics.median(seconds) * 1e3 for seconds in zip(*pairs, strict=True))
    least, middle, most = min(ratios), statistics.median(ratios), max(ratios)
    print(f"{name:48} {one:8.1f} {other:8.1f}   {least:.2f} {middle:.2f} {most:.2f}")


def _call_positions(engine: Engine, rounds: int) -> float:
    """From the processor times of one event and of a full window, each alone in a call: the least of many, others only add."""
    window = engine.bundle.manifest.window.length
    seconds = []
    for length in (1, window):
        feeds = {"ids_BT": np.zeros((1, length), np.int64), "lengths_B": np.array([length])}
        run = partial(engine.graphs.replay, "lower", feeds)
        seconds.append(min(_seconds(run, time.thread_time) for _ in range(20 * rounds)))
    short, full = seconds
    # One event stands at two positions: the start token has one of its own.
    return short * (window - 1) / (full - short) - 2


def _seconds(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    began = clock()
    run()
    return clock() - began


if __name__ == "__main__":
    main()
