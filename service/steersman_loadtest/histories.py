"""Histories to send: of real users from a file of interactions, or made up."""

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from steersman_loadtest.errors import LoadTestError
from steersman_loadtest.interactions import SEPARATORS, HistoryColumns, read_interactions

KINDS = (".parquet", *SEPARATORS)
MAX_HISTORIES = 10_000
MADE_UP = 500
USUAL = HistoryColumns()


class Histories(NamedTuple):
    """The items of each user's events."""

    source: str
    """Origin, for reports."""
    real: bool
    item_ids: list[list[str]]
    """Of each user, oldest first; two events or more."""
    summary: tuple[str, ...] = ()
    """Summary of what was read and left out, in lines."""


def read_histories(path: Path, seed: int, columns: HistoryColumns = USUAL) -> Histories:
    """A file of interactions (Parquet, CSV or TSV), or a folder with one called `interactions`, as `steersman train` takes it.

    Of more than MAX_HISTORIES users, that many are drawn. Raises LoadTestError if the file cannot be used.
    """
    file = _interactions(path)
    table, summary = read_interactions(file, columns)
    # The sort is stable: events of the same time stay in the order of the file.
    table = table.sort_by([("user", "ascending"), ("time", "ascending")])
    users, items = table["user"].to_numpy(), table["item"]
    edges = [0, *(np.flatnonzero(users[1:] != users[:-1]) + 1).tolist(), len(users)]
    spans = [(start, end) for start, end in pairwise(edges) if end - start >= 2]
    if not spans:
        raise LoadTestError(f"{file}: no user with two events or more")
    if len(spans) > MAX_HISTORIES:
        spans = random.Random(seed).sample(spans, MAX_HISTORIES)
    histories = [[str(item) for item in items[start:end].to_pylist()] for start, end in spans]
    events = sum(map(len, histories))
    summary = (*summary, f"  users      {len(histories):,} with two events or more, {events:,} in all")
    return Histories(str(file), True, histories, summary)


def make_up_histories(item_ids: Sequence[str], seed: int) -> Histories:
    """Histories of known items in random order, with a skewed popularity. Raises LoadTestError without items."""
    if len(item_ids) < 2:
        raise LoadTestError("the server names no items to make histories of: give --histories FILE")
    rng = random.Random(seed)
    shuffled = rng.sample(item_ids, len(item_ids))
    weights = [1 / (rank + 10) for rank in range(len(shuffled))]
    histories = [list(dict.fromkeys(rng.choices(shuffled, weights, k=rng.randint(8, 80)))) for _ in range(MADE_UP)]
    return Histories("made up of the items that the catalogue names", False, [h for h in histories if len(h) > 1])


def _interactions(path: Path) -> Path:
    if path.is_dir():
        found = next((file for kind in KINDS if (file := path / f"interactions{kind}").is_file()), None)
        if found is None:
            raise LoadTestError(f"{path}: has no interactions.parquet, .csv or .tsv")
        return found
    if not path.is_file():
        raise LoadTestError(f"{path}: there is no such file or folder")
    if path.suffix not in KINDS:
        raise LoadTestError(f"{path}: of no known kind; give .parquet, .csv or .tsv")
    return path
