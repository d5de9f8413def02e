"""Users whose last event is held out: their scores, and what an edit does to their lists.

Dimensions: B users, N items, D hidden, F features, K = 10.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from bench.aims.data import Tables
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.items import Items
from steersman_service.engine.engine import Engine
from steersman_service.engine.request import EngineRequest

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
K = 10
TOGETHER = 64


class Users(NamedTuple):
    requests: list[EngineRequest]
    scores_BN: Array
    """Minus infinity at items of the history."""
    targets_B: Rows


def users_of(engine: Engine, tables: Tables, most: int, seed: int = 0) -> Users:
    """Users drawn at random, each at its last event."""
    bundle, items = engine.bundle, Items(engine.bundle.items)
    by_time = tables.interactions.sort(pl.col("timestamp").cast(pl.Int64), maintain_order=True)
    histories = by_time.group_by("user_id", maintain_order=True).agg("item_id")["item_id"].to_list()
    rows = [known for history in histories if len(known := items.rows(history)) > 1]
    drawn = np.random.default_rng(seed).permutation(len(rows))[:most]
    length = bundle.manifest.window.length
    requests = [EngineRequest(rows[user][:-1][-length:], k=K) for user in drawn]
    h_BD = np.concatenate([_states(engine, requests[i : i + TOGETHER]) for i in range(0, len(requests), TOGETHER)])
    scores_BN = h_BD.astype(float) @ bundle.items_ND.T.astype(float) + bundle.biases_N
    for row, user in enumerate(drawn):
        scores_BN[row, rows[user][:-1]] = -np.inf
    return Users(requests, scores_BN, np.array([rows[user][-1] for user in drawn]))


def _states(engine: Engine, requests: Sequence[EngineRequest]) -> Array:
    pool, _ = engine.history.read(requests)
    (h_BD,) = engine.backend.fetch([pool["h_BD"]])
    return np.asarray(h_BD, float)


class Lists(NamedTuple):
    share: float
    """Of the lists' items, those of the set."""
    ndcg: float


def lists(users: Users, added_BN: Array | float, member_N: Mask) -> Lists:
    """The lists where `added_BN` is added to the scores."""
    scores_BN = users.scores_BN + added_BN
    rows_BK = np.argpartition(-scores_BN, K, axis=1)[:, :K]
    target_B = np.take_along_axis(scores_BN, users.targets_B[:, None], 1)
    rank_B = (scores_BN > target_B).sum(1)
    return Lists(float(member_N[rows_BK].mean()), float(np.where(rank_B < K, 1 / np.log2(rank_B + 2), 0).mean()))


def effects_FN(bundle: Bundle) -> Array:
    """What strength 1 of each feature adds to the scores of items."""
    assert bundle.decoder_FD is not None
    scale_F1 = bundle.features["scale"].to_numpy()[:, None]
    added_FN: Array = (scale_F1 * bundle.decoder_FD).astype(float) @ bundle.items_ND.T.astype(float)
    return added_FN
