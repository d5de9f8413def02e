"""What aims are worth, on MovieLens-100K.

    python -m bench.aims --cache data/cache --work data/aims --json FILE

Trains four bundles into WORK (ten minutes on two cores; those that are there are used again): one on all data, one whose item table
lacks six genres, one on the first 95% of the events, and one on all of them with another seed. Prints what item sets and words do for
genres that the bundle has never seen, beside the concepts that were trained for them; and how feature controls fare across a retraining.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from bench.aims import carry, data, queries


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.aims", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=Path("data/cache"))
    parser.add_argument("--work", type=Path, default=Path("data/aims"))
    parser.add_argument("--users", type=int, default=943)
    parser.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    tables, work = data.whole(arguments.cache), arguments.work
    hidden = trained(work, "hidden", data.without_genres(tables), seed=0)
    full, later = (trained(work, name, tables, seed=seed) for name, seed in (("full", 0), ("later", 1)))
    earlier = trained(work, "earlier", data.without_last_events(tables), seed=0)
    figures = {
        "hidden_genres": queries.summary(queries.curves(hidden, full, tables, arguments.users)),
        "retraining": carry.summary(carry.carried_controls(earlier, later, tables, arguments.users)),
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


def trained(work: Path, name: str, tables: data.Tables, seed: int) -> Path:
    """The bundle `name` in `work`, trained if it is not there."""
    bundle = work / name / "current"
    if not bundle.exists():
        folder = data.write(tables, work / f"data-{name}")
        command = [sys.executable, "-m", "steersman_service", "train", "--data", str(folder), "--out", str(work / name)]
        subprocess.run([*command, "--seed", str(seed), "--device", "cpu", "--preset", "quick"], check=True)
    return bundle


if __name__ == "__main__":
    main()
