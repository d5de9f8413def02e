"""Fuzzes each target for a time, and alters each byte of a tiny bundle: FUZZ_SECONDS=60 make fuzz

Prints what was executed, and the input of a crash, which is kept in data/fuzz/. Inputs that reached something new are kept there,
too, for the next time.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

NAMES = ("requests", "sessions", "bundles", "http")
LONGEST_INPUT = 4096
# Whose branches lead the search.
INSTRUMENTED = ["steersman_service", "connectrpc", "starlette"]


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--work", type=Path, default=Path("data/fuzz"))
    parser.add_argument("--target", choices=NAMES, help="this one, in this process; more flags go to libFuzzer")
    arguments, more = parser.parse_known_args()
    if arguments.target:
        fuzz(arguments.target, arguments.bundle.resolve(), more)
        return
    _alter()
    failed = [name for name in NAMES if not _fuzzed(name, arguments)]
    sys.exit(f"crashes: {', '.join(failed)}" if failed else 0)


def _alter() -> None:
    """Raises AssertionError."""
    # Imported here: what a target imports has to be instrumented.
    from tests import synthetic
    from tests.conftest import make_bundle
    from tests.fuzz.altered import walk

    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder, "data"), Path(folder, "out")
        data.mkdir()
        out.mkdir()
        bundle = make_bundle(synthetic.write(data), out)
        begun = time.monotonic()
        count = walk(bundle)
    sys.stdout.write(
        f"altered: {count} bytes of a tiny bundle, one at a time in {time.monotonic() - begun:.0f} s, all found\n"
    )
    sys.stdout.flush()


def _fuzzed(name: str, arguments: argparse.Namespace) -> bool:
    corpus = arguments.work / name
    corpus.mkdir(parents=True, exist_ok=True)
    bounds = [f"-max_total_time={arguments.seconds}", f"-max_len={LONGEST_INPUT}", "-timeout=60", "-rss_limit_mb=4096"]
    command = [sys.executable, "-m", "tests.fuzz", "--target", name, "--bundle", str(arguments.bundle)]
    with tempfile.TemporaryDirectory() as temporary:
        ended = subprocess.run(
            [*command, *bounds, f"-artifact_prefix={corpus}-", str(corpus)],
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | {"TMPDIR": temporary},
        )
        # libFuzzer ends the process where it stands, and the store of its server lives on.
        for file in Path(temporary).rglob("valkey.pid"):
            with suppress(OSError, ValueError):
                os.kill(int(file.read_text()), signal.SIGTERM)
    done = re.search(r"Done (\d+) runs in (\d+) second", ended.stderr)
    runs = f"{done[1]} executions in {done[2]} s" if done else "ended early"
    sys.stdout.write(f"{name}: {runs}, {0 if not ended.returncode else 1} crashes\n")
    sys.stdout.flush()
    if ended.returncode:
        sys.stdout.write(ended.stderr[-4000:])
    return not ended.returncode


def fuzz(name: str, bundle: Path, flags: list[str]) -> None:
    """Never returns."""
    import atheris  # type: ignore[import-untyped]

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import TARGETS

    with TARGETS[name](bundle) as target:
        corpus = Path(next(flag for flag in flags if not flag.startswith("-")))
        for number, seed in enumerate(target.seeds):
            (corpus / f"seed-{number}").write_bytes(seed)
        atheris.Setup([sys.argv[0], *flags], target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
