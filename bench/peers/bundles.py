"""The two bundles of the benchmark. One epoch will do: weights cost the same whatever they are worth.

python -m bench.peers.bundles --data movielens-100k --out data/bench/bundles
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from steersman_training.data import Dataset, load
from steersman_training.display import RichDisplay
from steersman_training.pipeline import TrainConfig, train
from steersman_training.presets import PRESETS

NAMES = ("large", "small")


def config(name: str) -> TrainConfig:
    """`large`: D=128, T=200. `small`: D=64, T=50."""
    preset = PRESETS["large" if name == "large" else "quick"]
    small = replace(preset.recommender, hidden=64, heads=2, window_length=50, window_stride=10)
    shape = preset.recommender if name == "large" else small
    return replace(preset, recommender=shape, fit=replace(preset.fit, epochs=1), sae=replace(preset.sae, epochs=1))


def trained(dataset: Dataset, name: str, out: Path) -> Path:
    """The bundle's folder; trains it if there is none."""
    current = out / name / "current"
    if not current.exists():
        with RichDisplay() as display:
            train(dataset, config(name), out / name, torch.device("cpu"), display, None)
    return current


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.peers.bundles", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="movielens-100k", help="as `steersman train` takes it")
    parser.add_argument("--cache", type=Path, default=Path("data/cache"))
    parser.add_argument("--out", type=Path, default=Path("data/bench/bundles"))
    arguments = parser.parse_args()
    dataset = load(arguments.data, cache=arguments.cache)
    for name in NAMES:
        print(trained(dataset, name, arguments.out))


if __name__ == "__main__":
    main()
