"""Loads data and cleans it: every event counts once, users and items are numbers, and what was left out is counted."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from steersman_training.data import movielens
from steersman_training.data.columns import GUESSED, Columns, DataError
from steersman_training.data.doubts import check_match, share_doubts, time_doubts
from steersman_training.data.interactions import Interactions, read_interactions
from steersman_training.data.items import ItemTable, read_items
from steersman_training.data.report import DataReport
from steersman_training.data.tables import Tables, open_tables
from steersman_training.data.times import show_time


@dataclass(frozen=True)
class Dataset:
    """Cleaned data of U users and N items. The order of the rows of a source makes no difference, but for ties in time."""

    name: str
    events: pl.DataFrame
    """`user` (u32, 0 to U-1), `item` (u32, row of `items`), `time` (i64 or f64), sorted by user, then time.

    Events of a user at the same time stay in the order of the file.
    """
    items: pl.DataFrame
    """`item_id`, `title` (text), then the attributes: lists of text (categorical) or f64 (numeric, null unknown).

    Sorted by `item_id` as UTF-8 bytes.
    """
    has_clock: bool  # whether `time` is a timestamp, comparable between users, rather than a position
    report: DataReport
    sha256: str  # of events and items, in lower-case hex


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
    with `interactions` and `items`, as Parquet, CSV or TSV. `items` is an item table that replaces the source's own.
    Feedback is implicit: every interaction counts, or every one rated at least `min_rating`. Users and items with
    fewer events than the minimum are left out, repeatedly, until both minima hold.

    Raises DataError if the data cannot be used.
    """
    tables = movielens.open_tables(source, cache) or open_tables(Path(source))
    tables = tables.with_items(items) if items else tables
    _check_item_column(columns, tables)
    read = read_interactions(tables, columns, min_rating is not None)
    whole, item_ids = _coded(read.rows.drop_nulls())
    liked = whole if min_rating is None else whole.filter(pl.col("rating") >= min_rating)
    distinct = liked.unique(["user", "item", "time"], keep="first", maintain_order=True)
    events = _frequent(distinct, min_user_events, min_item_events)
    if events.is_empty():
        raise DataError(
            f"{tables.where}: no event is left of {read.rows.height} rows: {read.rows.height - whole.height} malformed, "
            f"{whole.height - liked.height} rated too low, {distinct.height} of users or items with too few events "
            f"(a user needs {min_user_events}; {'; '.join(read.roles())})"
        )
    item_ids = item_ids.gather(events["item"].unique().sort())
    table = read_items(tables, columns, item_ids)
    report = _report(tables, read, table, (whole, liked, distinct, events))
    events = _numbered(events)
    check_match(table, tables, report.matched_events, item_ids)
    warnings = (*read.warnings, *time_doubts(events, read, tables.where), *table.warnings)
    most = int(events["user"].value_counts()["count"].max())  # type: ignore[arg-type]
    report = replace(report, warnings=(*warnings, *share_doubts(report, most, tables)))
    return Dataset(tables.name, events, table.items, read.has_clock, report, _sha256(events, table.items))


def _check_item_column(columns: Columns, tables: Tables) -> None:
    names, where = tables.interactions.collect_schema().names(), tables.where
    if tables.items is not None:
        names, where = [*names, *tables.items.collect_schema().names()], f"{where} and {tables.items_where}"
    columns.check_item(names, where)


def _report(tables: Tables, read: Interactions, table: ItemTable, steps: Sequence[pl.DataFrame]) -> DataReport:
    """`steps` are the events that are whole, of those liked, of those distinct, and of those frequent."""
    whole, liked, distinct, events = steps
    unit = read.times.unit if read.has_clock else None
    first, last = (show_time(value, unit) for value in (events["time"].min(), events["time"].max()))  # type: ignore[arg-type]
    without_row, matched = table.items.height, None
    if table.known is not None:
        without_row = int((~table.known).sum())
        rows = (events["item"].rank("dense") - 1).cast(pl.UInt32)
        matched = float(table.known.gather(rows).cast(pl.UInt32).sum()) / events.height
    return DataReport(
        name=tables.name,
        rows=read.rows.height,
        malformed_rows=read.rows.height - whole.height,
        low_ratings=whole.height - liked.height,
        duplicate_events=liked.height - distinct.height,
        rare_events=distinct.height - events.height,
        rare_users=distinct["user"].n_unique() - events["user"].n_unique(),
        rare_items=distinct["item"].n_unique() - events["item"].n_unique(),
        items_without_events=table.without_events,
        items_without_row=without_row,
        malformed_item_rows=table.malformed_rows,
        users=events["user"].n_unique(),
        items=table.items.height,
        events=events.height,
        matched_events=matched,
        span=f"{first} to {last} ({read.times.reading if read.has_clock else 'places in the history, no clock'})",
        malformed=read.malformed,
        columns=read.roles(),
        not_read=read.ignored,
        item_columns=table.columns,
        item_columns_left_out=table.left_out,
    )


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
    """Renumbered without gaps, in the order of a Dataset."""
    numbers = [(pl.col(name).rank("dense") - 1).cast(pl.UInt32) for name in ("user", "item")]
    return events.select(*numbers, "time").sort("user", "time", maintain_order=True)


def _sha256(events: pl.DataFrame, items: pl.DataFrame) -> str:
    digest = hashlib.sha256(json.dumps([items.columns, [str(dtype) for dtype in events.dtypes]]).encode())
    for column in events.iter_columns():
        digest.update(column.to_numpy().astype(column.to_numpy().dtype.newbyteorder("<")).tobytes())
    for row in items.iter_rows():
        digest.update(json.dumps(row, ensure_ascii=False).encode())
    return digest.hexdigest()
