"""Histories to send: those of real users, from a file of interactions, or made up where there is no file."""

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from steersman_service.errors import LoadTestError

# As `steersman train` understands them, best first.
COLUMNS = {
    "user": ("user_id", "user", "userId"),
    "item": ("item_id", "item", "itemId", "movieId"),
    "time": ("timestamp", "time", "position"),
}
SEPARATORS = {".csv": ",", ".tsv": "\t"}
KINDS = (".parquet", *SEPARATORS)
MAX_HISTORIES = 10_000
MADE_UP = 500


class Histories(NamedTuple):
    """What users did."""

    source: str
    """Where it comes from, as reports say it."""
    real: bool
    item_ids: list[list[str]]
    """Of each user, oldest first; two events or more."""


def read_histories(path: Path, seed: int) -> Histories:
    """A file of interactions (Parquet, CSV or TSV), or a folder with one called `interactions`, as `steersman train` takes it.

    Of more than MAX_HISTORIES users some are drawn. Raises LoadTestError if the file cannot be used.
    """
    file = _interactions(path)
    table = _columns(_read(file), file).drop_null()
    # The sort is stable: events of the same time stay in the order of the file.
    table = table.sort_by([("user", "ascending"), ("time", "ascending")])
    users, items = table["user"].to_numpy(), table["item"]
    edges = [0, *(np.flatnonzero(users[1:] != users[:-1]) + 1).tolist(), len(users)]
    spans = [(start, end) for start, end in pairwise(edges) if end - start >= 2]
    if not spans:
        raise LoadTestError(f"{file}: no user with two events or more")
    if len(spans) > MAX_HISTORIES:
        spans = random.Random(seed).sample(spans, MAX_HISTORIES)
    return Histories(str(file), True, [[str(item) for item in items[start:end].to_pylist()] for start, end in spans])


def make_up_histories(item_ids: Sequence[str], seed: int) -> Histories:
    """Histories of known items in random order, some items far more often than others. Raises LoadTestError without items."""
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


def _read(file: Path) -> pa.Table:
    try:
        if file.suffix == ".parquet":
            return parquet.read_table(file)
        # Ids are text: 007 is not 7, and NA may be one.
        ids = {name: pa.string() for role in ("user", "item") for name in COLUMNS[role]}
        convert = csv.ConvertOptions(column_types=ids, null_values=[""], strings_can_be_null=True)
        return csv.read_csv(file, None, csv.ParseOptions(delimiter=SEPARATORS[file.suffix]), convert)
    except (pa.ArrowException, OSError) as error:
        raise LoadTestError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error


def _columns(table: pa.Table, file: Path) -> pa.Table:
    """Columns user and item (text) and time."""
    chosen = {}
    for role, names in COLUMNS.items():
        name = next((name for name in names if name in table.column_names), None)
        if name is None:
            raise LoadTestError(f"{file}: no column {' or '.join(names)}; it has {', '.join(table.column_names)}")
        chosen[role] = _time(table[name]) if role == "time" else table[name].cast(pa.string())
    return pa.table(chosen)


def _time(column: Any) -> Any:
    """Numbers that are written as text, as numbers: as text, 10 comes before 9."""
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        return column
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        return column
