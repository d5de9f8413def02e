"""Times as files hold them: numbers, temporal types, and dates as text in any order of day and month."""

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
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}  # how many make a second
FIRST, LAST = 31_536_000, 4_133_980_800  # 1971 and 2100, in seconds since 1970


class Times(NamedTuple):
    """A column of times, read."""

    values: pl.Series  # numbers as they came, or microseconds since 1970; null for what is missing or unreadable
    unreadable: int  # values that are present, but no time
    example: str  # one of them, or ""
    reading: str  # what the column was read as: "seconds since 1970", "dates, month/day/year"
    unit: int | None  # how many of `values` make a second; None if unknown, 0 for days in eight digits
    warnings: tuple[str, ...] = ()

    @property
    def are_dates(self) -> bool:
        return self.reading.startswith("dates")


def read_times(column: pl.Series, where: str) -> Times:
    """Reads a column. `where` names file and column.

    Raises DataError if the order of day and month is ambiguous, or if most of the column is no time.
    """
    if column.dtype.is_temporal():
        return Times(column.cast(pl.Datetime("us")).dt.timestamp("us"), 0, "", "dates", UNITS["microseconds"])
    known = column if column.dtype.is_numeric() else present(column)
    values = read_numbers(known)
    warnings: list[str] = []
    reading, unit = _number_unit(values)
    if values.null_count() > known.null_count() and known.dtype == pl.String:
        dates, order, warnings = _read_dates(known, where)
        if dates.null_count() < values.null_count():
            values, reading, unit = dates, f"dates, {order}", UNITS["microseconds"]
    lost = known.filter(known.is_not_null() & values.is_null())
    if lost.dtype.is_float():
        lost = lost.filter(lost.is_not_nan())
    example = str(lost[0]) if len(lost) else ""
    if 2 * len(lost) > known.count():
        raise DataError(
            f"{where}: {len(lost)} of {known.count()} values are no time that can be read, as {example!r}: give {ISO} or seconds since 1970"
        )
    return Times(values, len(lost), example, reading, unit, tuple(warnings))


def show_time(value: float, unit: int | None) -> str:
    """A value of `Times.values` as a date, or as a number if its unit is unknown."""
    try:
        if unit == 0:
            return datetime.strptime(str(int(value)), "%Y%m%d").replace(tzinfo=UTC).date().isoformat()
        if unit:
            return datetime.fromtimestamp(value / unit, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        pass
    return f"{value:.12g}"


def implausible(values: pl.Series, unit: int | None) -> pl.Series:
    """The values outside 1971 to 2100."""
    return values.filter(~values.is_between(FIRST * unit, LAST * unit)) if unit else values.head(0)


def _number_unit(numbers: pl.Series) -> tuple[str, int | None]:
    """The unit of numbers, by their median."""
    median = numbers.median()
    if isinstance(median, int | float):
        if 19_000_101 <= median <= 21_001_231:
            days = numbers.cast(pl.Int64, strict=False).cast(pl.String).str.to_date("%Y%m%d", strict=False)
            if days.count() >= NEARLY_ALL * numbers.count():
                return "year, month and day in eight digits", 0
        for name, unit in UNITS.items():
            if FIRST * unit <= median <= LAST * unit:
                return f"{name} since 1970", unit
    return "numbers", None


def _read_dates(text: pl.Series, where: str) -> tuple[pl.Series, str, list[str]]:
    """Microseconds since 1970 in UTC, the order of day and month, and warnings."""
    first = text.str.extract_groups(YEAR_FIRST).struct.unnest()
    last = text.str.extract_groups(YEAR_LAST).struct.unnest()
    zones = first["zone"].count() + last["zone"].count()
    warnings = []
    if 0 < zones < text.count():
        warnings.append(
            f"{where}: {zones} of {text.count()} times name a time zone; the others are taken for UTC. Give all a zone."
        )
    iso = _stamps(first.with_columns(pl.coalesce("one", "one8"), pl.coalesce("two", "two8")), "one", "two")
    if not last["year"].count():
        return iso, "year first", warnings
    stamps, order = _ordered(last, where, str(text.filter(last["year"].is_not_null())[0]), warnings)
    return iso.zip_with(iso.is_not_null(), stamps), order, warnings


def _ordered(parts: pl.DataFrame, where: str, example: str, warnings: list[str]) -> tuple[pl.Series, str]:
    """Month/day or day/month, whichever reads (nearly) all dates. Raises DataError if neither or both do."""
    dates = parts["year"].count()
    by_month, by_day = _stamps(parts, "one", "two"), _stamps(parts, "two", "one")
    readings = [(by_month.count(), "month/day/year", by_month), (by_day.count(), "day/month/year", by_day)]
    (most, order, stamps), (fewer, other, _) = sorted(readings, key=lambda one: -one[0])
    if by_month.equals(by_day):
        return stamps, order
    if most == fewer:
        raise DataError(
            f"{where}: {example!r} may be month/day/year or day/month/year, and no date of the column tells: give {ISO}"
        )
    if most < NEARLY_ALL * dates:
        raise DataError(
            f"{where}: {most} of {dates} dates can be read as {order}, {fewer} as {other}, and neither fits all: give {ISO}"
        )
    if fewer > 0.9 * dates:
        warnings.append(
            f"{where}: read as {order}, for the sake of {dates - fewer} of {dates} dates; if that is wrong, give {ISO}"
        )
    return stamps, order


def _stamps(parts: pl.DataFrame, month: str, day: str) -> pl.Series:
    """Microseconds since 1970 in UTC, from the named groups of a match."""
    year, hour = pl.col("year"), pl.col("hour").cast(pl.Int32).fill_null(0)
    afternoon = (pl.col("half").str.to_lowercase() == "p").cast(pl.Int32)
    century = pl.when(year.cast(pl.Int32) < 70).then(pl.lit("20")).otherwise(pl.lit("19"))
    digits = pl.col("zone").str.replace_all(":", "").str.pad_end(5, "0")
    zone = pl.concat_str(digits.str.head(3), pl.lit(":"), digits.str.tail(2))
    text = pl.format(
        "{}-{}-{}T{}:{}:{}.{}{}",
        pl.when(year.str.len_bytes() == 2).then(pl.concat_str(century, year)).otherwise(year),
        pl.col(month).str.zfill(2),
        pl.col(day).str.zfill(2),
        pl.when(pl.col("half").is_null()).then(hour).otherwise(hour % 12 + 12 * afternoon).cast(pl.String).str.zfill(2),
        *(pl.col(name).fill_null(zero) for name, zero in (("minute", "00"), ("second", "00"), ("fraction", "0"))),
        pl.when(pl.col("zone").str.contains("^[+-]")).then(zone).otherwise(pl.lit("+00:00")),
    )
    stamps = text.str.to_datetime("%+", strict=False, time_unit="us").dt.timestamp("us")
    return parts.select(stamps.alias("time")).to_series()
