"""How much batching is worth: 64 requests in one batch against the same 64 one after the other, in the same run.

make bench
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from steersman_service.bundle import load_bundle
from steersman_service.engine import Edits, Engine, Work
from steersman_service.onnx_backend import OnnxBackend


def main() -> None:
    """Prints the median seconds of both ways, and their ratio pair by pair."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    bundle = load_bundle(arguments.bundle, "onnx")
    engine = Engine(bundle, OnnxBackend(bundle, device="cpu", threads=1))
    rng = np.random.default_rng(0)
    items, window = len(bundle.items_ND), bundle.manifest.window.length
    none = Edits(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32))
    works = [
        Work(rng.integers(items, size=rng.integers(1, window)), none, np.zeros(0, np.int64), np.zeros(0, np.float32),
             np.ones(items, np.bool_), 10)
        for _ in range(64)
    ]  # fmt: skip
    batched, single = [], []
    for _ in range(arguments.rounds):
        batched.append(_seconds(lambda: engine.run(works)))
        single.append(_seconds(lambda: [engine.run([work]) for work in works]))
    ratios = [one / other for one, other in zip(single, batched, strict=True)]
    print(f"one by one {statistics.median(single) * 1e3:.1f} ms, one batch {statistics.median(batched) * 1e3:.1f} ms")
    print(
        f"one by one / one batch: {min(ratios):.2f} {statistics.median(ratios):.2f} {max(ratios):.2f} (min, median, max)"
    )


def _seconds(run: object) -> float:
    assert callable(run)
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
