"""Draws the pictures of steering.md: what concepts do to lists by strength, and what the same share costs by kind of control.

python docs/steering_pictures.py --bundle data/bundles/current --cache data/cache
"""

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from steersman_client import Control, Feature, LocalClient, concept, feature, load, tilt
from steersman_training.data import load as load_data

DOCS = Path(__file__).parent
USERS, K, THREADS = 100, 10, 32
CONCEPTS = ("Horror", "Comedy", "War", "Sci-Fi", "Romance")
STRENGTHS = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
UP = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
NATS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
COST_OF = "Comedy"
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7")
"""Those of Okabe and Ito."""


class Lists(NamedTuple):
    """Means over users."""

    share: float
    """Of the list, of what the control is about."""
    overlap: float
    """Of the plain list, that is left."""


def main() -> None:
    """Writes steering_strength.svg and steering_cost.svg."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--cache", type=Path, default=Path("data/cache"))
    arguments = parser.parse_args()
    rcParams["svg.hashsalt"], rcParams["svg.fonttype"] = "steering", "none"
    with load(arguments.bundle) as model:
        readers = Readers(model, arguments.cache)
        _draw_strengths(readers)
        _draw_costs(readers)


class Readers:
    """Histories of users, the last two events left out, and how their lists change."""

    def __init__(self, model: LocalClient, cache: Path) -> None:
        data = load_data("movielens-100k", cache=cache)
        ids = np.array(data.items["item_id"].to_list())
        rows_of = dict(data.events.group_by("user", maintain_order=True).agg("item").iter_rows())
        chosen = np.random.default_rng(0).choice(len(rows_of), USERS, replace=False)
        self.model = model
        self._histories = [ids[rows_of[user][:-2]].tolist() for user in chosen.tolist()]
        self._plain = self._asked([])
        self._genres = {item.item_id: item.attributes.get("genres", ()) for item in model.items()}

    def lists(self, genre: str, control: Control) -> Lists:
        """Under one control that is about `genre`."""
        steered = self._asked([control])
        shares = [genre in str(self._genres[item_id]) for ids in steered for item_id in ids]
        overlaps = [len({*ids} & {*plain}) / K for ids, plain in zip(steered, self._plain, strict=True)]
        return Lists(float(np.mean(shares)), float(np.mean(overlaps)))

    def _asked(self, controls: Sequence[Control]) -> list[tuple[str, ...]]:
        with ThreadPoolExecutor(THREADS) as threads:  # what waits together is computed together
            return [
                *threads.map(lambda ids: self.model.recommend(ids, controls=controls, k=K).item_ids, self._histories)
            ]


def _draw_strengths(readers: Readers) -> None:
    figure = Figure(figsize=(8, 3), layout="constrained")
    shares, overlaps = figure.subplots(1, 2)
    for genre, colour in zip(CONCEPTS, COLOURS, strict=True):
        lists = [readers.lists(genre, concept(f"genres:{genre}", strength)) for strength in STRENGTHS]
        shares.plot(STRENGTHS, [each.share for each in lists], color=colour, marker=".", label=genre)
        overlaps.plot(STRENGTHS, [each.overlap for each in lists], color=colour, marker=".")
    _label(shares, "strength of the concept", "share of the list")
    _label(overlaps, "strength of the concept", "overlap with the plain list")
    shares.legend(frameon=False, fontsize="small")
    _write(figure, "steering_strength.svg")


def _draw_costs(readers: Readers) -> None:
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    found = _best_feature(readers.model)
    kinds: list[tuple[str, Sequence[float], Callable[[float], Control]]] = [
        (f"concept genres:{COST_OF}", UP, lambda strength: concept(f"genres:{COST_OF}", strength)),
        (f"feature {found.label!r}, as it was found", UP, lambda strength: feature(found, strength)),
        ("tilt", NATS, lambda strength: tilt("genres", COST_OF, strength)),
    ]
    for (name, strengths, control), colour in zip(kinds, COLOURS, strict=False):
        lists = [readers.lists(COST_OF, control(strength)) for strength in strengths]
        axes.plot(
            [each.share for each in lists], [each.overlap for each in lists], color=colour, marker=".", label=name
        )
    _label(axes, f"share of {COST_OF}", "overlap with the plain list")
    axes.legend(frameon=False, fontsize="small")
    _write(figure, "steering_cost.svg")


def _best_feature(model: LocalClient) -> Feature:
    """The discovered one that raises the share of COST_OF most."""
    found = [each for each in model.features(kind="discovered", include_rare=True) if each.association and each.effect]
    of = [each for each in found if each.association and each.association.value == COST_OF]
    return max(of, key=lambda each: each.effect.share_after - each.effect.share_before if each.effect else 0.0)


def _label(axes: Axes, across: str, up: str) -> None:
    axes.set(xlabel=across, ylabel=up, ylim=(-0.03, 1.03))
    axes.grid(alpha=0.3)


def _write(figure: Figure, name: str) -> None:
    figure.savefig(DOCS / name, metadata={"Date": None})


if __name__ == "__main__":
    main()
