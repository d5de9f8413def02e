"""Data, cleaned: every event counts once, users and items are numbers, and whatever was left out is counted."""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from steersman_training import movielens
from steersman_training.items import read_items
from steersman_training.tables import GUESSED, Columns, DataError, Tables, open_tables, readable, scan_items

__all__ = ["Columns", "DataError", "DataReport", "Dataset", "load"]


@dataclass(frozen=True)
class DataReport:
    """What was read, and what was left out and why. Rows are those of the interactions, unless named otherwise."""

    rows: int
    """Rows read."""
    malformed_rows: int
    """Without a user, an item, or an order that can be understood."""
    low_ratings: int
    """Rated below `min_rating`."""
    duplicate_events: int
    """The same user, item and time once more."""
    rare_events: int
    """Events of users or items that have too few."""
    rare_users: int
    """Users with fewer than `min_user_events`."""
    rare_items: int
    """Items with fewer than `min_item_events`."""
    items_without_events: int
    """Rows of the item table that no event is left for."""
    items_without_row: int
    """Items that have events but no row in the item table: kept, titled by their id."""
    malformed_item_rows: int
    """Rows of the item table without an id, or with that of an earlier row."""
    ignored_columns: tuple[str, ...]
    """Columns that were not read: of the interactions, or of the item table with a type that is no attribute."""


@dataclass(frozen=True)
class Dataset:
    """Cleaned data of U users and N items. The same data gives the same Dataset, whatever order its users came in."""

    name: str
    events: pl.DataFrame
    """`user` (u32, 0 to U-1), `item` (u32, row of `items`), `time` (i64 or f64), sorted by user, then time.

    Events of a user at the same time stay in the order of the file.
    """
    items: pl.DataFrame
    """`item_id`, `title` (text), then the attributes: lists of text (categorical) or f64 (numeric, null unknown).

    Sorted by `item_id` as UTF-8 bytes.
    """
    has_clock: bool
    """Whether `time` is a timestamp, comparable between users, rather than a position."""
    report: DataReport
    sha256: str
    """Of events and items, in lower-case hex."""


def load(
    source: str,
    *,
    items: Path | None = None,
    columns: Columns = GUESSED,
    min_rating: float | None = None,
    min_user_events: int = 3,
    min_item_events: int = 1,
    cache: Path,
) -> Dataset:
    """Reads and cleans data.

    `source` is `movielens-100k` (fetched into `cache`), a MovieLens folder or zip, a file of interactions, or a folder
    with `interactions` and `items`, as Parquet, CSV or TSV. `items` is an item table that goes before the source's
    own. Feedback is implicit: every interaction counts, or every one rated at least `min_rating`. Users and items with
    fewer events than the minimum are left out, again and again until both minima hold.

    Raises DataError if the data cannot be used.
    """
    tables = movielens.open_tables(source, cache) or open_tables(Path(source), columns)
    if items:
        tables = tables._replace(items=scan_items(items, columns))
    rows, has_clock, ignored = _read_interactions(tables, columns, min_rating is not None)
    whole, item_ids = _coded(rows.drop_nulls())
    liked = whole if min_rating is None else whole.filter(pl.col("rating") >= min_rating)
    distinct = liked.unique(["user", "item", "time"], keep="first", maintain_order=True)
    events = _frequent(distinct, min_user_events, min_item_events)
    if events.is_empty():
        raise DataError(
            f"{tables.where}: no event is left of {rows.height} rows: {rows.height - whole.height} malformed, "
            f"{whole.height - liked.height} rated too low, {distinct.height} of users or items with too few events"
        )
    table = read_items(tables.items, columns, item_ids.gather(events["item"].unique().sort()))
    events = _numbered(events)
    report = DataReport(
        rows=rows.height,
        malformed_rows=rows.height - whole.height,
        low_ratings=whole.height - liked.height,
        duplicate_events=liked.height - distinct.height,
        rare_events=distinct.height - events.height,
        rare_users=distinct["user"].n_unique() - events["user"].n_unique(),
        rare_items=distinct["item"].n_unique() - events["item"].n_unique(),
        items_without_events=table.without_events,
        items_without_row=table.without_row,
        malformed_item_rows=table.malformed_rows,
        ignored_columns=(*ignored, *table.ignored_columns),
    )
    return Dataset(tables.name, events, table.items, has_clock, report, _sha256(events, table.items))


def _read_interactions(tables: Tables, columns: Columns, rated: bool) -> tuple[pl.DataFrame, bool, list[str]]:
    """Columns user, item (text), time (number) and, if asked for, rating, with null for what cannot be understood."""
    where, names = tables.where, tables.interactions.collect_schema().names()
    chosen = {role: columns.need(role, names, where) for role in ("user", "item")}
    # A position that was named goes before a timestamp that was only guessed.
    named_position = columns.position if not columns.timestamp else None
    clock = None if named_position else columns.find("timestamp", names, where)
    chosen["time"] = clock or columns.find("position", names, where) or columns.need("timestamp", names, where)
    if rated:
        chosen["rating"] = columns.need("rating", names, where)
    with readable(where):
        rows = tables.interactions.select(pl.col(name).alias(role) for role, name in chosen.items()).collect()
        rows = rows.with_columns(_id(pl.col("user")), _id(pl.col("item")), _number(rows["time"]))
        if rated:
            rows = rows.with_columns(_number(rows["rating"]))
    if rows.is_empty():
        raise DataError(f"{where}: no rows")
    return rows, clock is not None, [name for name in names if name not in chosen.values()]


def _id(column: pl.Expr) -> pl.Expr:
    text = column.cast(pl.String)
    return pl.when(text != "").then(text)


def _number(column: pl.Series) -> pl.Series:
    """Integers, finite floats or microseconds since 1970, whichever understands most of it; null for the rest."""
    if column.dtype.is_temporal():
        return column.cast(pl.Datetime("us")).dt.timestamp("us")
    if column.dtype.is_integer():
        return column.cast(pl.Int64, strict=False)
    readings = [column.cast(pl.Int64, strict=False)] if column.dtype == pl.String else []
    floats = column.cast(pl.Float64, strict=False)
    readings.append(floats.set(~floats.is_finite(), None))
    if column.dtype == pl.String and readings[-1].null_count() > column.null_count():
        with suppress(pl.exceptions.ComputeError):  # no format of a date fits
            readings.append(column.str.to_datetime(strict=False, time_unit="us").dt.timestamp("us"))
    return min(readings, key=pl.Series.null_count)


def _frequent(events: pl.DataFrame, min_user_events: int, min_item_events: int) -> pl.DataFrame:
    """The largest part of the events in which both minima hold."""
    while True:
        kept = events.filter((pl.len().over("user") >= min_user_events) & (pl.len().over("item") >= min_item_events))
        if kept.height == events.height:
            return events
        events = kept


def _coded(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series]:
    """Users and items as numbers, in the order of the UTF-8 bytes of their ids; and the ids of the items by number."""
    ids = {name: rows[name].unique().sort() for name in ("user", "item")}
    codes = [pl.col(name).cast(pl.Enum(ids[name])).to_physical().cast(pl.UInt32) for name in ids]
    return rows.with_columns(codes), ids["item"]


def _numbered(events: pl.DataFrame) -> pl.DataFrame:
    """Numbers without gaps, once some are left out, and the order of a Dataset."""
    numbers = [(pl.col(name).rank("dense") - 1).cast(pl.UInt32) for name in ("user", "item")]
    return events.select(*numbers, "time").sort("user", "time", maintain_order=True)


def _sha256(events: pl.DataFrame, items: pl.DataFrame) -> str:
    digest = hashlib.sha256(json.dumps([items.columns, [str(dtype) for dtype in events.dtypes]]).encode())
    for column in events.iter_columns():
        digest.update(column.to_numpy().astype(column.to_numpy().dtype.newbyteorder("<")).tobytes())
    for row in items.iter_rows():
        digest.update(json.dumps(row, ensure_ascii=False).encode())
    return digest.hexdigest()
