"""What a history that grew by an event costs in the engine: computed whole, appended to, and under other controls only.

make bench-engine HISTORIES=interactions.parquet

Every round each of the conversations gets its next event, and is asked about three times in the same round, by turns: of an engine
that keeps nothing, of one that kept the events before, and of that one again under other controls. One thread computes. Histories are
those of the file, as the window shows them, or of lengths evenly spread where there is none.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from steersman_service.bundle import Array, Bundle, load_bundle
from steersman_service.engine import Edits, Engine, Work
from steersman_service.items import Items
from steersman_service.kv_cache import KeyValueCache
from steersman_service.loadtest.histories import read_histories
from steersman_service.onnx_backend import OnnxBackend
from steersman_service.state_cache import StateCache
from steersman_service.window import in_window

CONVERSATIONS = 32
SIZES = (1, 8)
NO_EDITS = Edits(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))


class Cost(NamedTuple):
    """Milliseconds of a batch: in all, and what of it went to the histories."""

    total_ms: float
    history_ms: float


def main() -> None:
    """Prints the median milliseconds of a batch in each way, and what the whole computation is of the others'."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--histories", type=Path, help="a file of interactions, as `steersman loadtest` takes it")
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle, "onnx")
    backend = OnnxBackend(bundle, device="cpu", threads=1)
    windows = _windows(bundle, arguments.histories, arguments.rounds)
    shape, lengths = bundle.manifest.shape, [len(ids_T) for ids_T in windows]
    print(
        f"{CONVERSATIONS} conversations, N={shape.items}, D={shape.hidden}, windows of {min(lengths)} to {max(lengths)} events,"
    )
    print(f"median {statistics.median(lengths):.0f}, of at most {bundle.manifest.window.length}")
    print(
        f"{'ms a batch (of it for the histories)':38} {'whole':>15} {'appended':>15} {'controls only':>15}   ratios of medians"
    )
    for size in SIZES:
        whole, appended, controls = _measure(bundle, backend, windows, size, arguments.rounds)
        ratios = f"{whole.total_ms / appended.total_ms:.1f} ({whole.history_ms / appended.history_ms:.1f})"
        figures = " ".join(
            f"{f'{cost.total_ms:.2f} ({cost.history_ms:.2f})':>15}" for cost in (whole, appended, controls)
        )
        print(f"{f'batches of {size}':38} {figures}   {ratios}, {whole.total_ms / controls.total_ms:.1f}")
    _print_memory(bundle, backend, windows)


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
    bundle: Bundle, backend: OnnxBackend, windows: Sequence[Array], size: int, rounds: int
) -> tuple[Cost, Cost, Cost]:
    plain, keeping = Engine(bundle, backend), _keeping(bundle, backend)
    plain_clock, keeping_clock = _clock(plain), _clock(keeping)
    costs: dict[str, list[Cost]] = defaultdict(list)
    for round_number in range(rounds + 1):
        for begin in range(0, CONVERSATIONS, size):
            works = [
                _work(bundle, ids_T[: len(ids_T) - rounds + round_number]) for ids_T in windows[begin : begin + size]
            ]
            steered = [work._replace(edits=_edits(bundle)) for work in works]
            costs["whole"].append(plain_clock(works))
            costs["appended"].append(keeping_clock(works))
            costs["controls"].append(keeping_clock(steered))
        if round_number == 0:
            costs.clear()  # the first one has nothing to append to
    return tuple(  # type: ignore[return-value]
        Cost(*(statistics.median(figure) for figure in zip(*costs[way], strict=True)))
        for way in ("whole", "appended", "controls")
    )


def _keeping(bundle: Bundle, backend: OnnxBackend) -> Engine:
    engine = Engine(bundle, backend)
    if not engine.keeps_histories:
        raise SystemExit(
            "this bundle has no graphs `keep` and `append`: train it anew, with the hook after the last block"
        )
    engine.states, engine.key_values = StateCache(1 << 30), KeyValueCache(1 << 30)
    return engine


def _clock(engine: Engine) -> Callable[[Sequence[Work]], Cost]:
    """Runs a batch and says what it cost."""
    stages: dict[str, float] = defaultdict(float)

    def observe(stage: str, seconds: float) -> None:
        stages[stage] += seconds

    def run(works: Sequence[Work]) -> Cost:
        stages.clear()
        began = time.perf_counter()
        engine.run(works)
        total = time.perf_counter() - began
        return Cost(1e3 * total, 1e3 * (stages["lower"] + stages["append"]))

    engine.observe = observe
    return run


def _work(bundle: Bundle, ids_T: Array) -> Work:
    return Work(ids_T, NO_EDITS, NO_EDITS.features_E, NO_EDITS.strengths_E, None, min(20, len(bundle.items_ND)))


def _edits(bundle: Bundle) -> Edits:
    features = min(8, bundle.manifest.shape.features)
    return Edits(np.arange(features), np.ones(features, np.float32), np.full(features, 0.5, np.float32))


def _print_memory(bundle: Bundle, backend: OnnxBackend, windows: Sequence[Array]) -> None:
    engine = _keeping(bundle, backend)
    engine.run([_work(bundle, ids_T) for ids_T in windows])
    print(f"{engine.key_values.held_bytes / CONVERSATIONS / 1024:.0f} KiB are kept of a conversation, on average")


if __name__ == "__main__":
    main()
