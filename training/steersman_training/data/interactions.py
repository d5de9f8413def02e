"""Interactions: the columns that are used, read, and what could not be read."""

from typing import NamedTuple

import polars as pl

from steersman_training.data.columns import ROLES, Columns, DataError, listed
from steersman_training.data.tables import Tables, readable
from steersman_training.data.times import Times, read_times
from steersman_training.data.values import missing_words, present, read_ids, read_numbers

SUSPICIOUS = 0.05  # share of the rows left out beyond which there is a warning
ABSURD = 2 / 3  # share of unreadable rows beyond which the data is refused
SHORTENED = r"^\d(\.\d+)?[eE]\+?\d{2,}$"  # long numbers as a spreadsheet writes them: 7.65612E+16
FLAGS = [ROLES[role][0] for role in ("user", "item", "timestamp", "rating")]


class Interactions(NamedTuple):
    """Rows as they were read."""

    rows: pl.DataFrame  # user, item (text), time (number) and, if asked for, rating; null for what cannot be read
    times: Times
    has_clock: bool
    chosen: dict[str, str]  # the column of each role: user, item, time and, if asked for, rating
    ignored: tuple[str, ...]
    malformed: tuple[str, ...]  # what is wrong with rows, and how often: "no user: 3 (NULL)"
    warnings: tuple[str, ...]

    def roles(self) -> tuple[str, ...]:
        """Which column was read as what: "user: user_id"."""
        return tuple(f"{role}: {listed([name])}" for role, name in self.chosen.items())


def read_interactions(tables: Tables, columns: Columns, rated: bool) -> Interactions:
    """Reads the rows. Raises DataError if columns are missing, or most of one cannot be read."""
    where, names = tables.where, tables.interactions.collect_schema().names()
    chosen, has_clock = _choose(columns, names, where, rated)
    with readable(where):
        raw = tables.interactions.select(pl.col(name).alias(role) for role, name in chosen.items()).collect()
        if raw.is_empty():
            raise DataError(f"{where}: no rows")
        times = read_times(raw["time"], f"{where}: column {chosen['time']!r}")
        read = {"user": read_ids(raw["user"]), "item": read_ids(raw["item"]), "time": times.values}
        if rated:
            read["rating"] = _ratings(raw["rating"], f"{where}: column {chosen['rating']!r}")
    rows = pl.DataFrame(read)
    malformed = _malformed(raw, rows, times)
    warnings = (*times.warnings, *_rounded_ids(raw, chosen, where), *_lost(rows, malformed, where))
    ignored = tuple(name for name in names if name not in chosen.values())
    return Interactions(rows, times, has_clock, chosen, ignored, tuple(malformed), warnings)


def _choose(columns: Columns, names: list[str], where: str, rated: bool) -> tuple[dict[str, str], bool]:
    """The column of each role, and whether that of the time is a clock."""
    chosen = {role: columns.need(role, names, where) for role in ("user", "item")}
    # A named position is preferred to a guessed timestamp.
    named_position = columns.position if not columns.timestamp else None
    clock = None if named_position else columns.find("timestamp", names, where)
    chosen["time"] = clock or columns.find("position", names, where) or columns.need("timestamp", names, where)
    if rated:
        chosen["rating"] = columns.need("rating", names, where)
    elif columns.rating:
        raise DataError("--rating-column: ratings are read with --min-rating only")
    roles: dict[str, str] = {}
    for role, name in chosen.items():
        if roles.setdefault(name, role) != role:
            raise DataError(
                f"{where}: column {name!r} cannot be both {roles[name]} and {role}; name them with {', '.join(FLAGS)}"
            )
    return chosen, clock is not None


def _ratings(column: pl.Series, where: str) -> pl.Series:
    known = column if column.dtype.is_numeric() else present(column)
    numbers = read_numbers(known)
    lost = known.filter(known.is_not_null() & numbers.is_null())
    if 2 * len(lost) > known.count():
        raise DataError(
            f"{where}: {len(lost)} of {known.count()} ratings are no numbers, as {str(lost[0])!r}; name another column: --rating-column"
        )
    return numbers


def _malformed(raw: pl.DataFrame, rows: pl.DataFrame, times: Times) -> list[str]:
    malformed = []
    for role in rows.columns:
        unreadable = times.unreadable if role == "time" else 0
        if missing := rows[role].null_count() - unreadable:
            words = missing_words(raw[role])
            malformed.append(f"no {role}: {missing:,}" + (f" (as {words})" if words else ""))
    if times.unreadable:
        malformed.append(f"no readable time: {times.unreadable:,} (as {times.example!r})")
    return malformed


def _lost(rows: pl.DataFrame, malformed: list[str], where: str) -> list[str]:
    height, lost = rows.height, rows.height - rows.drop_nulls().height
    message = f"{where}: {lost:,} of {height:,} rows ({lost / height:.0%}) cannot be used: {'; '.join(malformed)}"
    if lost >= ABSURD * height:
        raise DataError(f"{message}. Mend them, or name other columns: {', '.join(FLAGS[:3])}")
    return [f"{message}. Mend them, or leave them out of the file"] if lost > SUSPICIOUS * height else []


def _rounded_ids(raw: pl.DataFrame, chosen: dict[str, str], where: str) -> list[str]:
    """Warnings about ids that have lost digits."""
    warnings = []
    for role in ("user", "item"):
        column = raw[role]
        if column.dtype.is_float():
            lost = column.filter(column.abs() >= 2**53)
        else:
            lost = column.filter(column.cast(pl.String).str.contains(SHORTENED).fill_null(False))
        if len(lost):
            warnings.append(
                f"{where}: column {chosen[role]!r}: {len(lost) / len(column):.0%} of the ids are rounded numbers, as {lost[0]!r}: "
                "different ones may have become one. Write ids as text"
            )
    return warnings
