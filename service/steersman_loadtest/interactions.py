"""Reads a file of interactions as `steersman train` does: finds the columns, drops incomplete rows, parses times."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute
from pyarrow import csv, parquet

from steersman_loadtest.errors import LoadTestError

pc: Any = pyarrow.compute  # Its stubs do not know chunked arrays everywhere.

# Recognised names of columns, best first. Case, spaces and underscores are ignored.
GUESSES = {
    "user": ("user_id", "user", "userId"),
    "item": ("item_id", "item", "itemId", "movieId"),
    "time": ("timestamp", "time", "position"),
}
SEPARATORS = {".csv": ",", ".tsv": "\t"}
OTHER_SEPARATORS = (";", "\t", ",", "|")
MISSING = (
    *("", "NULL", "Null", "null", "(null)", "\\N", "None", "none", "NONE", "nil", "undefined", "NaT", "-", "--", "?"),
    *("N/A", "n/a", "NA", "#N/A", "#NA", "#N/A N/A", "<NA>", "NaN", "nan", "NAN", "-NaN", "-nan"),
)
"""Texts that programs write for a missing value."""
NUMBER = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
YEAR_FIRST = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?$"
YEAR_LAST = (
    r"^(?P<one>\d{1,2})[-/.](?P<two>\d{1,2})[-/.](?P<year>\d{4}|\d{2})"
    r"(?:,? +(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?)?$"
)


class HistoryColumns(NamedTuple):
    """Names of columns, where they differ from `GUESSES`."""

    user: str | None = None
    item: str | None = None
    time: str | None = None


class InteractionTable(NamedTuple):
    """Complete events."""

    events: pa.Table
    """Columns user and item (text) and time (sortable)."""
    summary: tuple[str, ...]
    """Summary of what was read and left out, in lines."""


def read_interactions(file: Path, columns: HistoryColumns) -> InteractionTable:
    """Parquet, CSV or TSV. Raises LoadTestError if the file cannot be read, or its times are ambiguous."""
    try:
        table, chosen = _read(file, columns)
        ids = {role: _ids(table[chosen[role]]) for role in ("user", "item")}
        time = _time(table[chosen["time"]], f"{file}: column {chosen['time']!r}")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise LoadTestError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error
    read = pa.table({**ids, "time": time})
    events = read.drop_null()
    missing = [f"no {role}: {read[role].null_count:,}" for role in read.column_names if read[role].null_count]
    summary = (
        f"histories: {file}",
        f"  rows read  {read.num_rows:,}",
        f"  left out   {'; '.join(missing) or 'none'}",
        f"  columns    {'; '.join(f'{role}: {name}' for role, name in chosen.items())}",
    )
    if read.num_rows and 3 * events.num_rows <= read.num_rows:
        raise LoadTestError(
            f"{file}: only {events.num_rows:,} of {read.num_rows:,} rows are whole: {'; '.join(missing)}"
        )
    return InteractionTable(events, summary)


def _read(file: Path, columns: HistoryColumns) -> tuple[pa.Table, dict[str, str]]:
    """The three columns, and their names by role. Ids in text files stay text: 007 is not 7."""
    if file.suffix == ".parquet":
        chosen = _choose(parquet.read_schema(file).names, columns, file)
        return parquet.read_table(file, columns=list(dict.fromkeys(chosen.values()))), chosen
    parse = csv.ParseOptions(delimiter=_separator(file))
    with csv.open_csv(file, parse_options=parse) as reader:
        names = reader.schema.names
    chosen = _choose(names, columns, file)
    text = {name: pa.string() for name in chosen.values()}
    convert = csv.ConvertOptions(
        column_types=text, include_columns=list(text), null_values=[""], strings_can_be_null=True
    )
    return csv.read_csv(file, None, parse, convert), chosen


def _choose(names: list[str], columns: HistoryColumns, file: Path) -> dict[str, str]:
    chosen = {}
    plain = {_plain(name): name for name in reversed(names)}
    for role, guesses in GUESSES.items():
        given: str | None = getattr(columns, role)
        wanted = (given,) if given else guesses
        found = next((name for name in wanted if name in names), None)
        if found is None and not given:
            found = next((plain[_plain(guess)] for guess in guesses if _plain(guess) in plain), None)
        if found is None:
            raise LoadTestError(
                f"{file}: no column {' or '.join(wanted)}; it has {', '.join(names)}. Name the right one: --{role}-column"
            )
        chosen[role] = found
    return chosen


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


def _separator(file: Path) -> str:
    """The separator of the file's type, or the most frequent other one if the first line does not have it."""
    usual = SEPARATORS[file.suffix]
    with file.open("rb") as opened:
        line = opened.readline(1 << 20)
    counts = {separator: line.count(separator.encode()) for separator in OTHER_SEPARATORS}
    return usual if counts[usual] or not any(counts.values()) else max(counts, key=lambda separator: counts[separator])


def _present(column: Any) -> Any:
    """As text without surrounding whitespace; null for missing values."""
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.is_in(text, value_set=pa.array(MISSING)), None, text)


def _ids(column: Any) -> Any:
    """Ids as text. Whole numbers that came as floats (7.0, "7.0") are 7, unless some of the column have a fraction."""
    if pa.types.is_floating(column.type):
        whole = pc.all(pc.equal(pc.floor(column), column)).as_py() and pc.max(pc.abs(column)).as_py() < 2**63
        column = pc.if_else(pc.is_finite(column), column, None)
        return _present(column.cast(pa.int64()) if whole else column)
    text = _present(column)
    fractions = pc.any(pc.match_substring_regex(text, r"^-?\d+\.\d*[1-9]")).as_py()
    return text if fractions else pc.replace_substring_regex(text, r"^(-?\d+)\.0+$", r"\1")


def _time(column: Any, where: str) -> Any:
    """A sortable column. Raises LoadTestError for text that is no time, or an ambiguous one."""
    kind = column.type
    if not pa.types.is_string(kind) and not pa.types.is_large_string(kind):
        return pc.if_else(pc.is_finite(column), column, None) if pa.types.is_floating(kind) else column
    text = _present(column)
    known = len(text) - text.null_count
    for pattern, read in ((NUMBER, _numbers), (YEAR_FIRST, _stamps), (YEAR_LAST, _dates)):
        matching = pc.if_else(pc.match_substring_regex(text, pattern), text, None)
        if 2 * (len(matching) - matching.null_count) > known:
            return read(matching, where)
    example = pc.drop_null(text)[0].as_py() if known else ""
    if not known:
        return text
    raise LoadTestError(
        f"{where}: no times that can be read, as {example!r}: give ISO 8601 (2024-03-31T12:00:00Z) or numbers, or name another "
        "column: --time-column"
    )


def _numbers(text: Any, where: str) -> Any:
    try:
        return text.cast(pa.int64())
    except pa.ArrowInvalid:
        return text.cast(pa.float64())


def _stamps(text: Any, where: str) -> Any:
    """Times with the year first; as instants if they have time zones."""
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return text.cast(kind)
        except pa.ArrowInvalid:
            continue
    return text


def _dates(text: Any, where: str) -> Any:
    """Dates with the year last, as sortable numbers. Raises LoadTestError if day and month cannot be summary apart."""
    parts = pc.extract_regex(text, YEAR_LAST)
    one, two, year, hour, minute, second = (
        pc.fill_null(_part(parts, name), 0) for name in ("one", "two", "year", "hour", "minute", "second")
    )
    month_first, day_first = (pc.max(part).as_py() <= 12 for part in (one, two))
    if month_first == day_first:
        raise LoadTestError(
            f"{where}: {pc.drop_null(text)[0].as_py()!r} may be month/day/year or day/month/year: give ISO 8601 (2024-03-31T12:00:00Z)"
        )
    month, day = (one, two) if month_first else (two, one)
    half = pc.utf8_lower(pc.struct_field(parts, "half"))
    late = pc.equal(half, "p").cast(pa.int64())
    twelve = pc.add(pc.subtract(hour, pc.multiply(12, pc.equal(hour, 12).cast(pa.int64()))), pc.multiply(12, late))
    hour = pc.if_else(pc.equal(half, ""), hour, twelve)
    key = year
    for part, most in ((month, 13), (day, 32), (hour, 24), (minute, 60), (second, 60)):
        key = pc.add(pc.multiply(key, most), part)
    return pc.if_else(pc.is_valid(text), key, None)


def _part(parts: Any, name: str) -> Any:
    text = pc.struct_field(parts, name)
    return pc.if_else(pc.equal(text, ""), "0", text).cast(pa.int64())
