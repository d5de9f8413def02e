"""Times as files hold them: numbers, dates of a type of their own, and dates as text, whatever order day and month stand in."""

from datetime import UTC, datetime
from typing import NamedTuple

import polars as pl

from steersman_training.data.columns import DataError
from steersman_training.data.values import present, read_numbers

ISO = "ISO 8601 (2024-03-31, 2024-03-31T12:00:00Z)"
NEARLY_ALL = 0.95
CLOCK = (
    r"(?:(?:[T ]|, ?) *(?<hour>\d{1,2}):(?<minute>\d{2})"
    r"(?::(?<second>\d{2})(?:[.,](?<fraction>\d{1,9}))?)?(?: ?(?<half>[AaPp])\.?[Mm]\.?)?)?"
)
ZONE = r"(?: ?(?<zone>[Zz]|UTC|GMT|[+-]\d{2}(?::?\d{2})?))?$"
YEAR_FIRST = r"^(?<year>\d{4})(?:[-/.](?<one>\d{1,2})[-/.](?<two>\d{1,2})|(?<one8>\d{2})(?<two8>\d{2}))" + CLOCK + ZONE
YEAR_LAST = r"^(?<one>\d{1,2})[-/.](?<two>\d{1,2})[-/.](?<year>\d{4}|\d{2})" + CLOCK + ZONE
DAYS = "year, month and day in eight digits"
# Numbers of each unit, from 1971 to 2100, and how many of it make a second.
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
FIRST, LAST = 31_536_000, 4_133_980_800


class Times(NamedTuple):
    """A column of times, read."""

    values: pl.Series
    """Numbers as they came, or microseconds since 1970; null for what is missing or cannot be read."""
    unreadable: int
    """Values that are there, but no time."""
    example: str
    """One of them, or ""."""
    reading: str
    """What it was taken for: "seconds since 1970", "dates, month/day/year"."""
    unit: int | None
    """Of `values`, how many make a second; None where that is unknown, 0 for days in eight digits."""
    warnings: tuple[str, ...] = ()

    @property
    def are_dates(self) -> bool:
        return self.reading.startswith("dates")


def read_times(column: pl.Series, where: str) -> Times:
    """Reads a column. `where` names file and column.

    Raises DataError if day and month cannot be told apart, or if most of it is no time.
    """
    if column.dtype.is_temporal():
        return Times(column.cast(pl.Datetime("us")).dt.timestamp("us"), 0, "", "dates", UNITS["microseconds"])
    known = column if column.dtype.is_numeric() else present(column)
    numbers, dates = read_numbers(known), None
    warnings: list[str] = []
    if numbers.null_count() > known.null_count() and known.dtype == pl.String:
        dates, order, warnings = _read_dates(known, where)
    if dates is not None and dates.null_count() < numbers.null_count():
        values, reading = dates, f"dates, {order}"
        unit: int | None = UNITS["microseconds"]
    else:
        values, (reading, unit) = numbers, _number_unit(numbers)
    lost = known.filter(known.is_not_null() & values.is_null() & ~_is_nan(known))
    example = str(lost[0]) if len(lost) else ""
    if 2 * len(lost) > known.count():
        raise DataError(
            f"{where}: {len(lost)} of {known.count()} values are no time that can be read, as {example!r}: give {ISO} or seconds since 1970"
        )
    return Times(values, len(lost), example, reading, unit, tuple(warnings))


def show_time(value: float, unit: int | None) -> str:
    """A value of `Times.values` as a date; as the number it is where its unit is unknown."""
    if unit is None:
        return f"{value:.12g}"
    try:
        if unit == 0:
            return datetime.strptime(str(int(value)), "%Y%m%d").replace(tzinfo=UTC).date().isoformat()
        return datetime.fromtimestamp(value / unit, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{value:.12g}"


def implausible(values: pl.Series, unit: int | None) -> pl.Series:
    """Those outside 1971 to 2100."""
    if not unit:
        return values.head(0)
    return values.filter(~values.is_between(FIRST * unit, LAST * unit))


def _number_unit(numbers: pl.Series) -> tuple[str, int | None]:
    """What numbers are, by their median."""
    median = numbers.median()
    if not isinstance(median, int | float):
        return "numbers", None
    if (
        19_000_101 <= median <= 21_001_231
        and numbers.cast(pl.Int64, strict=False).cast(pl.String).str.to_date("%Y%m%d", strict=False).count()
        >= NEARLY_ALL * numbers.count()
    ):
        return DAYS, 0
    for name, unit in UNITS.items():
        if FIRST * unit <= median <= LAST * unit:
            return f"{name} since 1970", unit
    return "numbers", None


def _is_nan(column: pl.Series) -> pl.Series:
    return column.is_nan().fill_null(False) if column.dtype.is_float() else pl.repeat(False, len(column), eager=True)


def _read_dates(text: pl.Series, where: str) -> tuple[pl.Series, str, list[str]]:
    """Microseconds since 1970 in UTC, the order of day and month, and warnings."""
    first = text.str.extract_groups(YEAR_FIRST).struct.unnest()
    last = text.str.extract_groups(YEAR_LAST).struct.unnest()
    zones = pl.concat([first["zone"], last["zone"]]).count()
    warnings = []
    if 0 < zones < text.count():
        warnings.append(
            f"{where}: {zones} of {text.count()} times name a time zone; the others are taken for UTC. Give all a zone."
        )
    iso = _stamps(first.with_columns(pl.coalesce("one", "one8"), pl.coalesce("two", "two8")), "one", "two")
    if not last["year"].count():
        return iso, "year first", warnings
    by_month, by_day = _stamps(last, "one", "two"), _stamps(last, "two", "one")
    stamps, order, doubts = _ordered(
        by_month, by_day, last["year"].count(), where, str(text.filter(last["year"].is_not_null())[0])
    )
    return iso.zip_with(iso.is_not_null(), stamps), order, warnings + doubts


def _ordered(
    by_month: pl.Series, by_day: pl.Series, dates: int, where: str, example: str
) -> tuple[pl.Series, str, list[str]]:
    """The one of two readings that understands (nearly) all dates. Raises DataError where neither or both do."""
    readings = sorted(
        [(by_month.count(), "month/day/year", by_month), (by_day.count(), "day/month/year", by_day)],
        key=lambda one: -one[0],
    )
    (most, order, stamps), (fewer, other, _) = readings
    if by_month.equals(by_day):
        return stamps, order, []
    if most == fewer:
        raise DataError(
            f"{where}: {example!r} may be month/day/year or day/month/year, and no date of the column tells: give {ISO}"
        )
    if most < NEARLY_ALL * dates:
        raise DataError(
            f"{where}: {most} of {dates} dates can be read as {order}, {fewer} as {other}, and neither fits all: give {ISO}"
        )
    if fewer > 0.9 * dates:
        return (
            stamps,
            order,
            [
                f"{where}: read as {order}, for the sake of {dates - fewer} of {dates} dates; if that is wrong, give {ISO}"
            ],
        )
    return stamps, order, []


def _stamps(parts: pl.DataFrame, month: str, day: str) -> pl.Series:
    """Microseconds since 1970 in UTC, from the named groups of a match."""
    hour = pl.col("hour").cast(pl.Int32).fill_null(0)
    afternoon = pl.col("half").str.to_lowercase() == "p"
    year = pl.col("year")
    century = pl.when(year.cast(pl.Int32) < 70).then(pl.lit("20")).otherwise(pl.lit("19"))
    digits = pl.col("zone").str.replace_all(":", "").str.pad_end(5, "0")
    zone = pl.when(pl.col("zone").str.contains("^[+-]")).then(
        pl.concat_str(digits.str.head(3), pl.lit(":"), digits.str.tail(2))
    )
    text = pl.format(
        "{}-{}-{}T{}:{}:{}.{}{}",
        pl.when(year.str.len_bytes() == 2).then(pl.concat_str(century, year)).otherwise(year),
        pl.col(month).str.zfill(2),
        pl.col(day).str.zfill(2),
        pl.when(pl.col("half").is_null())
        .then(hour)
        .otherwise(hour % 12 + 12 * afternoon.cast(pl.Int32))
        .cast(pl.String)
        .str.zfill(2),
        pl.col("minute").fill_null("00"),
        pl.col("second").fill_null("00"),
        pl.col("fraction").fill_null("0"),
        zone.otherwise(pl.lit("+00:00")),
    )
    return parts.select(
        text.str.to_datetime("%+", strict=False, time_unit="us").dt.timestamp("us").alias("time")
    ).to_series()
