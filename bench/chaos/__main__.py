"""Faults under load: what clients see, what is lost, and how soon all is well again.

python -m bench.chaos --bundle data/bundles/current --only front-end-killed

Every part is a real process on 127.0.0.1. The exit code is 1 if a bar was missed.
"""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
import traceback
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from bench.chaos import failovers, process_faults, rolling, store_faults, swaps
from bench.chaos.report import Document, read, table, told, write, write_table
from bench.chaos.rows import ROWS, Row
from bench.chaos.stage import DEADLINE_SECONDS, Options, Skipped, Stage

MODULES = (process_faults, store_faults, failovers, rolling, swaps)
# A row that takes longer has got stuck.
ROW_SECONDS = 300.0
RESULTS = Path("docs/results")


def main() -> None:
    """Runs rows, and writes each into the report as soon as it is done."""
    parser = argparse.ArgumentParser(
        "python -m bench.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument(
        "--only", action="append", choices=[*ROWS], help="a row; more than once for several", metavar="NAME"
    )
    parser.add_argument("--list", action="store_true", help="name the rows, and run none")
    parser.add_argument("--rate", type=float, default=40, help="requests a second")
    parser.add_argument("--swaps", type=int, default=10, help="of bundles in the row bundle-swapped")
    parser.add_argument(
        "--before",
        default="",
        metavar="REF",
        help="commit that rolling-upgrade starts from (default: this checkout)",
    )
    parser.add_argument("--json", type=Path, default=RESULTS / "reliability.json")
    parser.add_argument("--page", type=Path, default=RESULTS / "reliability.md")
    parser.add_argument("--keep", type=Path, help="a folder for what the parts wrote, in place of a temporary one")
    arguments = parser.parse_args()
    if arguments.rate <= 0:
        parser.error("--rate: requests a second, above 0")
    if arguments.swaps < 1:
        parser.error("--swaps: at least 1")
    if not (arguments.bundle / "manifest.json").exists():
        parser.error(f"--bundle: {arguments.bundle} is no bundle; make train makes one")
    names = arguments.only or [*ROWS]
    if arguments.list:
        for name in names:
            print(f"{name:28} {ROWS[name].fault}")
        return
    logging.disable(logging.CRITICAL)  # redis-py and asyncio on connections that are ended on purpose
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        folder = arguments.keep or Path(temporary)
        missed = [name for name in names if not uvloop.run(_run(ROWS[name], folder / name, arguments))]
    if missed:
        sys.exit(f"bars missed: {', '.join(missed)}")


async def _run(row: Row, folder: Path, arguments: argparse.Namespace) -> bool:
    """Whether its bars hold."""
    start = time.monotonic()
    print(f"{row.name}: {row.fault}", flush=True)
    load = {"rate": arguments.rate, "deadline_seconds": DEADLINE_SECONDS, "cores": os.cpu_count()}
    try:
        async with AsyncExitStack() as stack:
            options = Options(arguments.rate, arguments.swaps, arguments.before)
            stage = Stage(folder, arguments.bundle.resolve(), options, stack)
            async with asyncio.timeout(ROW_SECONDS):
                await row.run(stage)
        own: Document = told(row, stage.result, load)
    except Skipped as why:
        own = {"skipped": str(why), "missed": []}
    # The other rows are run all the same.
    except Exception as error:
        traceback.print_exc()
        own = {"skipped": "it broke", "missed": [f"{type(error).__name__}: {error}"]}
    document = read(arguments.json)
    document.setdefault("chaos", {})[row.name] = own
    write(arguments.json, document)
    write_table(arguments.page, "chaos", table(document))
    _print(own, time.monotonic() - start)
    return not own["missed"]


def _print(own: Document, seconds: float) -> None:
    if "skipped" in own:
        print(f"    skipped: {own['skipped']}", *own["missed"])
        return
    print(
        f"    sent {own['sent']}, answered {own['answered']}, degraded {own['degraded']}, refused {own['refused'] or 0},"
        f" failed {own['failed'] or 0}; events {own['events_acknowledged']}, lost {own['events_lost']}, twice {own['events_duplicates']};"
        f" recovery {own['recovery_seconds']} s, slowest {own['slowest_seconds']:.2f} s ({seconds:.0f} s)"
    )
    for text in own["notes"]:
        print(f"    {text}")
    for text in own["missed"]:
        print(f"    MISSED: {text}", flush=True)


if __name__ == "__main__":
    main()
