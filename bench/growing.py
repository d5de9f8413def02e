"""What a history that grew by an event costs in the engine: computed whole, appended to, and under other controls only.

make bench-engine HISTORIES=interactions.parquet

Every round each of the conversations gets its next event, and all are asked about four times, one time after the other: of an engine that
keeps nothing, of one that kept the events before, and of that one again, as it was and under other controls. One thread computes, and its
processor time counts. Histories are those of the file, as the window shows them, or of lengths evenly spread where there is none.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from steersman_loadtest.histories import read_histories
from steersman_service.bundle.bundle import Array, Bundle, load_bundle
from steersman_service.bundle.items import Items
from steersman_service.bundle.window import in_window
from steersman_service.engine.backends.onnx import OnnxBackend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.history import HistoryReader
from steersman_service.engine.request import Edits, EngineRequest

CONVERSATIONS = 32
SIZES = (1, 8)
WAYS = ("whole", "appended", "again", "steered")
"""After the first round, in which there is nothing to append to: "appended" is then the whole and what it costs to keep it."""


def main() -> None:
    """Prints the median milliseconds of a batch in each way, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--histories", type=Path, help="a file of interactions, as `steersman loadtest` takes it")
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle, "onnx")
    graphs = Graphs(bundle, OnnxBackend(bundle, threads=1))
    windows = _windows(bundle, arguments.histories, arguments.rounds)
    shape, lengths = bundle.manifest.shape, [len(ids_T) for ids_T in windows]
    print(
        f"{CONVERSATIONS} conversations, N={shape.items}, D={shape.hidden}, window of {bundle.manifest.window.length}"
    )
    print(f"windows of {min(lengths)} to {max(lengths)} events, median {statistics.median(lengths):.0f}")
    print(
        f"{'ms a batch':14} {' '.join(f'{way:>9}' for way in WAYS)}   whole / appended, of the history, whole / steered"
    )
    for size in SIZES:
        first, cost = _measure(graphs, windows, size, arguments.rounds)
        # What is left again is the search, which all of them have.
        history = (cost["whole"] - cost["again"]) / (cost["appended"] - cost["again"])
        ratios = f"{cost['whole'] / cost['appended']:.1f}, {history:.1f}, {cost['whole'] / cost['steered']:.1f}"
        ratios += f", {first['appended'] / first['whole']:.2f}"
        print(f"{f'batches of {size}':14} {' '.join(f'{cost[way]:9.3f}' for way in WAYS)}   {ratios}")
    _print_memory(graphs, windows)


def _windows(bundle: Bundle, file: Path | None, rounds: int) -> list[Array]:
    """Of CONVERSATIONS users, more events than there are rounds."""
    window, rng = bundle.manifest.window, np.random.default_rng(0)
    if file is None:
        lengths = rng.integers(rounds + 1, window.length + 1, size=CONVERSATIONS)
        return [rng.integers(len(bundle.items_ND), size=length) for length in lengths]
    items = Items(bundle.items)
    histories = read_histories(file, seed=0).item_ids
    shown = (items.rows(in_window(ids, len(ids), window.length, window.stride)) for ids in histories)
    long_enough = [ids_T for ids_T in shown if len(ids_T) > rounds]
    return [long_enough[row] for row in rng.choice(len(long_enough), CONVERSATIONS, replace=False)]


def _measure(
    graphs: Graphs, windows: Sequence[Array], size: int, rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Median milliseconds of a batch, by way: in the first round, and in the others."""
    bundle, plain, keeping = graphs.bundle, Engine(graphs), _keeping(graphs)
    costs: dict[str, list[float]] = {way: [] for way in WAYS}
    for engine in (plain, keeping):  # in other shapes than before, the first run allocates
        engine.run([_work(bundle, ids_T[::-1]) for ids_T in windows])
    for missing in range(rounds, -1, -1):
        works = [_work(bundle, ids_T[: len(ids_T) - missing]) for ids_T in windows]
        steered = [work._replace(edits=_edits(bundle)) for work in works]
        asked = ((plain, works), (keeping, works), (keeping, works), (keeping, steered))
        for way, (engine, own) in zip(WAYS, asked, strict=True):
            costs[way] += [_milliseconds(engine, own[begin : begin + size]) for begin in range(0, CONVERSATIONS, size)]
    one_round = -(-CONVERSATIONS // size)
    first = {way: statistics.median(figures[:one_round]) for way, figures in costs.items()}
    return first, {way: statistics.median(figures[one_round:]) for way, figures in costs.items()}


def _milliseconds(engine: Engine, works: Sequence[EngineRequest]) -> float:
    began = time.thread_time()
    engine.run(works)
    return 1e3 * (time.thread_time() - began)


def _keeping(graphs: Graphs) -> Engine:
    history = HistoryReader(graphs, state_bytes=1 << 30, kv_bytes=1 << 30)
    if not history.can_keep:
        raise SystemExit(
            "this bundle has no graphs `keep` and `append`: train it anew, with the hook after the last block"
        )
    return Engine(graphs, history=history)


def _work(bundle: Bundle, ids_T: Array) -> EngineRequest:
    return EngineRequest(ids_T, k=min(20, len(bundle.items_ND)), grows=True)


def _edits(bundle: Bundle) -> Edits:
    features = min(8, bundle.manifest.shape.features)
    return Edits(np.arange(features), np.ones(features, np.float32), np.full(features, 0.5, np.float32))


def _print_memory(graphs: Graphs, windows: Sequence[Array]) -> None:
    engine = _keeping(graphs)
    engine.run([_work(graphs.bundle, ids_T) for ids_T in windows])
    print(f"{engine.key_values.held_bytes / CONVERSATIONS / 1024:.0f} KiB are kept of a conversation, on average")


if __name__ == "__main__":
    main()
