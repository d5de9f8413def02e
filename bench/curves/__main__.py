"""How cost grows: with the length of histories, the catalogue, the number of controls, the batch, and the sessions held.

make bench-curves BUNDLE=...

Requests are computed by the engine in this process, on one thread; sessions are written to an embedded Valkey of its own, in a
temporary folder. The report is OUT/curves.json, OUT/curves.md and OUT/curves/*.png.
"""

import argparse
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from bench.curves import report
from bench.curves.costs import BATCHES, engine_curves
from bench.curves.held import draw_lengths, held
from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_service.bundle.window import in_window

SESSIONS = (1_000, 3_000, 10_000)


def main(given: Sequence[str] | None = None) -> None:
    """Prints a line for each curve, and memory for sessions; writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--out", type=Path, default=Path("data/curves"))
    parser.add_argument("--rounds", type=int, default=60, help="runs of which each point is the median")
    parser.add_argument(
        "--sessions",
        type=int,
        nargs="+",
        default=SESSIONS,
        help="held in turn; 100,000 take about 2 GB and some minutes",
    )
    arguments = parser.parse_args(given)
    bundle = load_bundle(arguments.bundle, "onnx")
    curves = engine_curves(bundle, _windows(bundle), arguments.rounds)
    of_sessions, memory = held(bundle, arguments.sessions)
    curves += of_sessions
    report.write(arguments.out, curves, memory, _about(bundle, arguments))
    print("\n".join([*report.table(curves), "", *report.memory_lines(memory)]))


def _windows(bundle: Bundle) -> list[int]:
    """Lengths of as many windows as the largest batch has requests."""
    window = bundle.manifest.window
    lengths = draw_lengths(max(BATCHES), np.random.default_rng(1)).tolist()
    return [len(in_window(np.arange(length), length, window.length, window.stride)) for length in lengths]


def _about(bundle: Bundle, arguments: argparse.Namespace) -> dict[str, object]:
    return {
        "items": bundle.manifest.shape.items,
        "hidden": bundle.manifest.shape.hidden,
        "window": bundle.manifest.window.length,
        "rounds": arguments.rounds,
        "sessions": " ".join(map(str, arguments.sessions)),
        "processor": _processor(),
        "onnxruntime": ort.__version__,
        "numpy": np.__version__,
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


if __name__ == "__main__":
    main()
