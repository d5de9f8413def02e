"""Doubts about data that could be read: warnings, and refusals where it is absurd."""

from collections.abc import Iterator

import polars as pl

from steersman_training.data.columns import DataError
from steersman_training.data.interactions import Interactions
from steersman_training.data.items import ItemTable
from steersman_training.data.report import DataReport, percent
from steersman_training.data.tables import Tables
from steersman_training.data.times import implausible, show_time

ABSURD_MATCH = 0.05  # share of the events with an item in the item table, below which data is refused
# Shares of the events beyond which there is a warning.
FEW_MATCH = 0.9
MANY_DUPLICATES = 0.1
MANY_RARE = 0.5
MANY_TIES = 0.9
MANY_FAR = 0.25  # beyond this, data is refused
ONE_USER = 0.2
MANY_USERS = 20  # users beyond which one with ONE_USER of the events is suspicious


def check_match(table: ItemTable, tables: Tables, matched: float | None, item_ids: pl.Series) -> None:
    """Raises DataError if the item table has hardly any of the events' items."""
    if table.known is None or matched is None or matched >= ABSURD_MATCH:
        return
    raise DataError(
        f"{tables.items_where}: has rows for {int(table.known.sum())} of {len(table.known)} items, those of {percent(matched)} "
        f"of the events. Its ids are like {table.examples or 'none'}, those of {tables.where} like "
        f"{', '.join(map(repr, item_ids.head(2)))}: name the right "
        "columns with --item-column (twice, where the two tables call theirs differently), or mend the ids"
    )


def share_doubts(report: DataReport, most: int, tables: Tables) -> Iterator[str]:
    """Shares that are too large or too small. `most`: events of the user who has most."""
    distinct, column = report.events + report.rare_events, f"({report.columns[0]})"
    known = distinct + report.duplicate_events
    if report.duplicate_events > MANY_DUPLICATES * known:
        yield (
            f"{tables.where}: {report.duplicate_events / known:.0%} of the events repeat user, item and time of an earlier row, "
            "and are left out. If they are events of their own, give times that tell them apart"
        )
    if report.rare_events > MANY_RARE * distinct:
        yield (
            f"{tables.where}: {report.rare_events / distinct:.0%} of the events are of users or items with too few, and are left "
            f"out. Is that the right column {column}? Name another one: --user-column"
        )
    if most > ONE_USER * report.events and report.users > MANY_USERS:
        yield (
            f"{tables.where}: one user has {most / report.events:.0%} of the events {column}. If that id stands for "
            "all who are not known, leave its rows out"
        )
    if report.matched_events is not None and report.matched_events < FEW_MATCH:
        yield (
            f"{tables.items_where}: {1 - report.matched_events:.0%} of the events are of items without a row there, so without title "
            "and attributes. Add rows, or name the column of the id: --item-column"
        )


def time_doubts(events: pl.DataFrame, read: Interactions, where: str) -> Iterator[str]:
    """Doubts about the times of the remaining events, sorted by user and time. Raises DataError if units are mixed."""
    if not read.has_clock:
        return
    times, unit, name = events["time"], read.times.unit, f"{where}: column {read.chosen['time']!r}"
    far = implausible(times, unit)
    share = f"{name}: {percent(len(far) / len(times))} of the events lie outside 1971 to 2100"
    if unit is None:
        first, last = (show_time(value, None) for value in (times.min(), times.max()))  # type: ignore[arg-type]
        yield (
            f"{name}: {first} to {last} are no times of our days, in whatever unit. They order the events of a user; "
            "for --split global-time give ISO 8601 or seconds since 1970"
        )
    elif len(far) > MANY_FAR * len(times) and not read.times.are_dates:
        raise DataError(
            f"{share} if the others are {read.times.reading}, as {show_time(far[0], None)}. Give all times in one unit, "
            "and leave out rows without one"
        )
    elif len(far):
        yield (
            f"{share}, as {show_time(far[0], unit)}: times that are missing, or in another unit. Leave them out, or mend them"
        )
    pairs = events.height - events["user"].n_unique()
    ties = int(((events["user"] == events["user"].shift()) & (times == times.shift())).sum())
    if pairs and ties > MANY_TIES * pairs:
        yield (
            f"{name}: {ties / pairs:.0%} of the events have the time of their user's event before, so their order is that of the "
            "file. If that says nothing, name another column: --time-column"
        )
