"""Histories as arrays: splits, the window, and batches. Dimensions: B batch, T time, U users."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from steersman_training.data.columns import DataError
from steersman_training.data.loading import Dataset

IntArray = npt.NDArray[np.int64]
FEWEST = 2  # items to choose from; users: one to learn features from, one to measure them on


def window_start(events: int, length: int, stride: int) -> int:
    """Index of the first event that the recommender sees of a history of `events` (the window of proto/README.md)."""
    return 0 if events <= length else -(-(events - length) // stride) * stride


class Targets(NamedTuple):
    """Events to be predicted, each from all earlier events of its user."""

    users: IntArray
    positions: IntArray  # index of the event within its user's history

    def take(self, which: npt.NDArray[np.int64] | slice) -> "Targets":
        return Targets(self.users[which], self.positions[which])

    def parts(self, size: int) -> "list[Targets]":
        """All of them, at most `size` together."""
        return [self.take(slice(begin, begin + size)) for begin in range(0, len(self.users), size)]

    def sample(self, count: int, seed: int) -> "Targets":
        """At most `count` of them, in their order."""
        rows = np.random.default_rng(seed).permutation(len(self.users))[:count]
        return self.take(np.sort(rows))


@dataclass(frozen=True)
class Split:
    """Every user's events in order, and which of them are trained on or held out."""

    items: IntArray  # item rows, users one after the other
    offsets_U: IntArray  # where each user's events begin; one more entry than users
    train_ends_U: IntArray  # number of events of each user that may be trained on
    valid: Targets
    test: Targets
    item_count: int
    data_sha256: str = ""  # of the data that was split

    @property
    def users(self) -> int:
        return len(self.train_ends_U)

    def history(self, user: int, end: int) -> IntArray:
        """The first `end` events of a user, oldest first."""
        start = int(self.offsets_U[user])
        events: IntArray = self.items[start : start + end]
        return events

    def train_history(self, user: int) -> IntArray:
        return self.history(user, int(self.train_ends_U[user]))

    def popularity(self) -> npt.NDArray[np.float64]:
        """Training events of each item."""
        trained = self.items[self.is_trained_on()]
        return np.bincount(trained, minlength=self.item_count).astype(np.float64)

    def is_trained_on(self) -> npt.NDArray[np.bool_]:
        """For each of `items`, whether it may be trained on."""
        counts_U = np.diff(self.offsets_U)
        places = np.arange(len(self.items)) - np.repeat(self.offsets_U[:-1], counts_U)
        trained: npt.NDArray[np.bool_] = places < np.repeat(self.train_ends_U, counts_U)
        return trained

    def sha256(self) -> str:
        """Of what is trained on and what is held out, in lower-case hex."""
        parts = (self.items, self.offsets_U, self.train_ends_U, *self.valid, *self.test)
        digest = hashlib.sha256(f"{self.item_count} {[len(part) for part in parts]}".encode())
        for part in parts:
            digest.update(np.ascontiguousarray(part, dtype="<i8").tobytes())
        return digest.hexdigest()

    def targets(self, targets: Targets) -> IntArray:
        """Item rows to be predicted."""
        rows: IntArray = self.items[self.offsets_U[targets.users] + targets.positions]
        return rows


def split_leave_one_out(data: Dataset) -> Split:
    """The last event of each user is for the test, the one before for validation (users with fewer than 3: training only)."""
    items, offsets = _flatten(data)
    counts = np.diff(offsets)
    users = np.flatnonzero(counts >= 3)
    ends = np.where(counts >= 3, counts - 2, counts)
    valid, test = Targets(users, counts[users] - 2), Targets(users, counts[users] - 1)
    return Split(items, offsets, ends, valid, test, data.items.height, data.sha256)


def split_global_time(data: Dataset, valid_from: float = 0.8, test_from: float = 0.9) -> Split:
    """Trains on everything before one moment; predicts each user's first event after it, and after a second one.

    The moments are quantiles of the events' times. Raises DataError if times cannot be compared across users.
    """
    if not data.has_clock:
        raise DataError("split: global-time needs timestamps, and this data has positions only; use leave-one-out")
    items, offsets = _flatten(data)
    time = data.events["time"].to_numpy()
    moments = np.quantile(time, [valid_from, test_from])
    before = np.stack([np.add.reduceat(time < moment, offsets[:-1]) for moment in moments])
    counts = np.diff(offsets)
    valid_users = np.flatnonzero(before[0] < before[1])
    test_users = np.flatnonzero(before[1] < counts)
    valid = Targets(valid_users, before[0][valid_users])
    test = Targets(test_users, before[1][test_users])
    return Split(items, offsets, before[0], valid, test, data.items.height, data.sha256)


def _flatten(data: Dataset) -> tuple[IntArray, IntArray]:
    users = data.events["user"].to_numpy()
    offsets = np.searchsorted(users, np.arange(int(users[-1]) + 2)).astype(np.int64)
    return data.events["item"].to_numpy().astype(np.int64), offsets


def hold_out_users(split: Split, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Users to learn features from, and users to measure them on; both of those that have training events."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(split.train_ends_U))
    held_out = max(1, round(share * len(order)))
    return sorted(order[held_out:].tolist()), sorted(order[:held_out].tolist())


def check_enough(split: Split, held_out_users: float, seed: int) -> None:
    """Raises DataError if there is too little to train on, saying how much is needed."""
    if split.item_count < FEWEST:
        raise DataError(f"data: {split.item_count} item is left; at least {FEWEST} are needed")
    for name, targets in (("validate", split.valid), ("test", split.test)):
        if not len(targets.users):
            raise DataError(
                f"split: no event is held out to {name} on; at least 1 is needed: users with 3 events or more "
                "(leave-one-out), or events in the last tenths of the time (global-time)"
            )
    users = int((split.train_ends_U > 0).sum())
    if users < FEWEST:
        raise DataError(f"split: {users} users have events to train on; at least {FEWEST} are needed")
    learners, _ = hold_out_users(split, held_out_users, seed)
    items = len(np.unique(np.concatenate([split.train_history(user) for user in learners])))
    if items < FEWEST:
        raise DataError(
            f"split: the events to train on are of {items} item; at least {FEWEST} are needed. What is held out "
            "for tests (of each user the last two events, or all after a moment) is not trained on: bring more events"
        )


class Batch(NamedTuple):
    """Histories padded on the right with item 0."""

    ids_BT: IntArray
    lengths_B: IntArray


def pad(histories: list[IntArray]) -> Batch:
    """T is at least 1, so that a batch of empty histories has a shape."""
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    ids = np.zeros((len(histories), max(1, int(lengths.max(initial=0)))), dtype=np.int64)
    for row, history in enumerate(histories):
        ids[row, : len(history)] = history
    return Batch(ids, lengths)


def training_groups(
    split: Split, length: int, events_per_batch: int, rng: np.random.Generator, users: Iterable[int]
) -> list[list[IntArray]]:
    """One epoch of some users, in batches to be padded: every training event is a target once. Long histories are cut at random offsets.

    Windows of about the same length share a batch (little padding), batches come in random order.
    """
    windows = [window for user in users for window in _cut(split.train_history(user), length, rng)]
    jitter = rng.uniform(0.9, 1.1, len(windows))
    order = np.argsort(np.array([len(window) for window in windows]) * jitter)
    groups: list[list[IntArray]] = [[]]
    widest = 0
    for index in order:
        widest = max(widest, len(windows[index]))
        if widest * (len(groups[-1]) + 1) > events_per_batch and groups[-1]:
            groups.append([])
            widest = len(windows[index])
        groups[-1].append(windows[index])
    return [groups[group] for group in rng.permutation(len(groups)) if groups[group]]


def _cut(history: IntArray, length: int, rng: np.random.Generator) -> list[IntArray]:
    if len(history) <= length:
        return [history] if len(history) else []
    first = int(rng.integers(1, length + 1))
    return [history[:first], *(history[at : at + length] for at in range(first, len(history), length))]


class EvaluationBatch(NamedTuple):
    """Windows of histories, the next events, and all events before them."""

    batch: Batch
    targets_B: IntArray
    seen: tuple[IntArray, IntArray]  # (row of the batch, item row) of each event ever seen


def evaluation_batches(
    split: Split, targets: Targets, length: int, stride: int, batch_size: int = 128
) -> Iterator[EvaluationBatch]:
    """The histories before `targets`, in their order."""
    for begin in range(0, len(targets.users), batch_size):
        part = targets.take(slice(begin, begin + batch_size))
        full = [split.history(int(user), int(end)) for user, end in zip(*part, strict=True)]
        windows = [history[window_start(len(history), length, stride) :] for history in full]
        rows = np.repeat(np.arange(len(full)), [len(history) for history in full])
        yield EvaluationBatch(pad(windows), split.targets(part), (rows, np.concatenate(full)))
