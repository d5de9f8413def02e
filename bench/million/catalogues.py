"""Large catalogues to search: a trained one, extended, and one of noise alone.

Dimensions: N items, D hidden.
"""

from typing import NamedTuple

import numpy as np

from steersman_service.bundle.bundle import Array, Bundle
from steersman_training.bundle.index import ItemVectors

NEIGHBOURS = 10


class Made(NamedTuple):
    """Items, and which of the trained ones each was made of."""

    catalogue: ItemVectors
    origins_N: Array
    """Rows of the trained catalogue; all 0 for noise."""


def blends(bundle: Bundle, size: int, rng: np.random.Generator) -> Made:
    """The trained items, and blends of one with one of its nearest neighbours, in all proportions.

    To every number comes noise whose deviation is that of the number among the item's neighbours: the made items are as
    far from each other as the trained ones, in all directions that there are.
    """
    items_ND, biases_N = np.array(bundle.items_ND), np.array(bundle.biases_N)
    trained, more = len(items_ND), size - len(items_ND)
    nearest = _nearest(items_ND)
    origins_N = np.concatenate([np.arange(trained), rng.integers(trained, size=more)])
    others = nearest[origins_N, rng.integers(NEIGHBOURS, size=size)]
    shares_N = rng.random(size, np.float32)
    shares_N[:trained] = 1
    spread_ND, spread_N = items_ND[nearest].std(1), biases_N[nearest].std(1)
    made_ND = np.empty((size, items_ND.shape[1]), np.float32)
    for part in np.array_split(np.arange(size), -(-size // 65_536)):
        origin, share = origins_N[part], shares_N[part, None]
        noise = rng.standard_normal((len(part), items_ND.shape[1]), np.float32) * (part >= trained)[:, None]
        made_ND[part] = share * items_ND[origin] + (1 - share) * items_ND[others[part]] + noise * spread_ND[origin]
    noise_N = rng.standard_normal(size, np.float32) * (np.arange(size) >= trained)
    made_N = shares_N * biases_N[origins_N] + (1 - shares_N) * biases_N[others] + noise_N * spread_N[origins_N]
    return Made(ItemVectors(made_ND, made_N), origins_N)


def gaussian(bundle: Bundle, size: int, rng: np.random.Generator) -> Made:
    """Independent numbers: no item is close to any other one. The worst that a catalogue can be to an index."""
    hidden = bundle.items_ND.shape[1]
    deviation = np.float32(np.linalg.norm(bundle.items_ND, axis=1).mean() / hidden**0.5)
    items_ND = rng.standard_normal((size, hidden), np.float32) * deviation
    return Made(ItemVectors(items_ND, np.zeros(size, np.float32)), np.zeros(size, np.int64))


def _nearest(items_ND: Array) -> Array:
    """The nearest neighbours of each item, without itself."""
    squares_N = np.square(items_ND).sum(1)
    distances = squares_N[:, None] + squares_N - 2 * items_ND @ items_ND.T
    np.fill_diagonal(distances, np.inf)
    return np.argpartition(distances, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
