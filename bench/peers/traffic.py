"""What is asked of every server: the histories of real users at their true lengths, half of the requests steered by eight features.

Stateless requests carry the whole history, and no two of a run are alike: the oldest event that the recommender sees is another item than
it was, in each pass over the users another one, so that no cache helps. In session traffic each user makes ten turns: an event is appended,
then the twenty best items are asked for.

Dimensions: E edits.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from bench.peers.served.ranker import Request
from steersman_service.bundle.bundle import Bundle
from steersman_service.bundle.window import window_start

FEATURES = 8
STRENGTH = 0.5
TURNS = 10
NO_EDITS = np.zeros((3, 0), np.float32)
Array = Any


class Session(NamedTuple):
    """A user's turns."""

    user: int
    """From 0; a user is met once in a run."""
    before: Array
    """Item rows of the events that the server knew before the first turn."""
    turns: list[Request]
    """Histories that are each one event longer."""


class Traffic:
    """Draws requests; the same seed gives the same ones."""

    def __init__(self, bundle: Bundle, histories: Sequence[Array], seed: int = 0) -> None:
        """`histories`: item rows of each user, oldest first."""
        self.bundle = bundle
        self._rng = np.random.default_rng(seed)
        order = self._rng.permutation(len(histories))
        self._histories = [np.asarray(histories[user], np.int32) for user in order if len(histories[user])]
        scales = bundle.features["scale"].to_numpy()
        self._steerable = np.flatnonzero(scales > 0)

    def stateless(self) -> Iterator[Request]:
        """Without end, every other one steered."""
        steered = itertools.cycle((False, True))
        for number in itertools.count(1):
            for history in self._histories:
                yield Request(self._changed(history, number), self.edits() if next(steered) else NO_EDITS)

    def full_window(self) -> Iterator[Array]:
        """Histories as long as the window, without end, no two alike."""
        length = self.bundle.manifest.window.length
        long = [history[-length:] for history in self._histories if len(history) >= length]
        if not long:
            raise SystemExit(f"no history has {length} events: the benchmark needs longer ones")
        for number in itertools.count(1):
            for history in long:
                yield self._changed(history, number)

    def sessions(self, count: int) -> list[Session]:
        """Of as many users, whose turns end where their history does."""
        long = [history for history in self._histories if len(history) > TURNS]
        sessions = []
        for user in range(count):
            history = self._changed(long[user % len(long)], user // len(long))
            turns = [
                Request(history[: len(history) - TURNS + turn], self.edits() if turn % 2 else NO_EDITS)
                for turn in range(1, TURNS + 1)
            ]
            sessions.append(Session(user, history[: len(history) - TURNS], turns))
        return sessions

    def edits(self) -> Array:
        """Eight features, each strengthened. (3, E)"""
        features_E = self._rng.choice(self._steerable, FEATURES, replace=False)
        return np.stack([features_E, np.ones(FEATURES), np.full(FEATURES, STRENGTH)]).astype(np.float32)

    def _changed(self, history: Array, number: int) -> Array:
        window = self.bundle.manifest.window
        changed = history.copy()
        changed[window_start(len(history), window.length, window.stride)] += number
        return changed % len(self.bundle.items_ND)


def user_histories(events: pl.DataFrame, item_ids: Sequence[str], bundle: Bundle) -> list[Array]:
    """Histories as rows of the bundle's items; events of items that it does not know are left out."""
    row_of = {item_id: row for row, item_id in enumerate(bundle.items["item_id"].to_pylist())}
    rows = np.array([row_of.get(item_id, -1) for item_id in item_ids])[events["item"].to_numpy()]
    users = events["user"].to_numpy()
    edges = np.flatnonzero(np.diff(users)) + 1
    return [history[history >= 0] for history in np.split(rows, edges)]
