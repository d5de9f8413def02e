"""Each target takes its seeds and some changed ones: atheris, which looks for more, is not there for every Python."""

import random
from pathlib import Path

import pytest

from tests.fuzz.altered import walk
from tests.fuzz.targets import TARGETS, mutated

# What fuzzing has found.
FOUND = {"bundles": [b"\x09\x00\x00\x63\xff\x00"]}
RUNS = {"requests": 400, "sessions": 30, "bundles": 60, "http": 400}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_takes_anything(name: str, bundle_dir: Path) -> None:
    chance = random.Random(11)
    with TARGETS[name](bundle_dir) as target:
        for data in [*target.seeds, *FOUND.get(name, ())]:
            target.run(data)
        for _ in range(RUNS[name]):
            target.run(mutated(chance.choice(target.seeds), chance))


def test_altered_bytes_are_found(bundle_dir: Path) -> None:
    """One in so many: `make fuzz` tries each."""
    assert walk(bundle_dir, 499) > 1000
