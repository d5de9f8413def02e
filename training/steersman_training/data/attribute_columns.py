"""Which columns of an item table become attributes, of which kind, and why others do not."""

import re
from typing import NamedTuple

import polars as pl

from steersman_training.data.values import NO_VALUE, present_values, read_ids

CATEGORICAL = pl.List(pl.String)
INDEX = re.compile(
    r"|unnamed: ?\d+(_level_\d+)?|__index_level_\d+__|level_\d+|index|row_?(nr|num|number|index|names?|id)|_c0|\.\.\.1"
    r"|(unnamed)?_duplicated_\d+",
    re.IGNORECASE,
)
"""Names of row numbers written by pandas, polars, R and Spark."""
COUNTED_FROM = 10  # Rows from which 0, 1, 2, ... or 1, 2, 3, ... is a row number under any name.
IDENTIFIER = re.compile(r"(^|[\s_-])(id|ids|ID|Id)$|[a-z](Id|ID)$")  # names of columns whose numbers are identifiers
NEARLY_ALL = 0.95
FEW = 10  # items too few to judge a value by


class AttributeColumn(NamedTuple):
    """A column of an item table, read."""

    values: pl.Series | None  # lists of distinct text, or finite f64 with null if unknown; None: no attribute
    why: str = ""  # why it is none
    warning: str = ""


def read_attribute(column: pl.Series, is_text: bool) -> AttributeColumn:
    """A column as an attribute. In text, a column of (nearly) nothing but numbers is numeric."""
    dtype, identifies = column.dtype, bool(IDENTIFIER.search(column.name))
    if dtype.is_numeric():
        if identifies and (dtype.is_integer() or dtype.is_float()):
            return AttributeColumn(_one_each(read_ids(column)))
        number = column.cast(pl.Float64)
        return AttributeColumn(number.set(~number.is_finite(), None))
    if isinstance(dtype, pl.List) and not dtype.inner.is_nested():
        return AttributeColumn(_lists(column.cast(CATEGORICAL)))
    if dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
        return AttributeColumn(None, f"of type {dtype}, neither text nor numbers")
    text = present_values(column)
    if is_text and not identifies:
        return _numbers_or_text(text)
    return AttributeColumn(_one_each(read_ids(column) if identifies else text), warning=_packed(text))


def is_row_number(column: pl.Series) -> bool:
    """By name (empty, "Unnamed: 0", "__index_level_0__", ...), or because it counts the rows of the file."""
    if INDEX.fullmatch(column.name):
        return True
    if not (column.dtype == pl.String or column.dtype.is_integer()) or len(column) < COUNTED_FROM:
        return False
    numbers = column.cast(pl.Int64, strict=False)
    return not numbers.null_count() and numbers[0] in (0, 1) and bool((numbers.diff().drop_nulls() == 1).all())


def says_nothing(column: pl.Series) -> str:
    """Why the values of an attribute distinguish no items; "" if they do."""
    numeric = column.dtype == pl.Float64
    values = column.drop_nulls() if numeric else column.filter(column.list.len() > 0).list.sort().list.join("\x1f")
    known = len(values)
    if known == 0:
        return "no value is known"
    most = int(values.value_counts()["count"].max())  # type: ignore[arg-type]
    if known > 1 and most == known and (numeric or known >= 0.8 * len(column)):
        return f"one value for all items: {_shown(values[0])}"
    if most >= NEARLY_ALL * len(column) and len(column) - most < FEW and known > 1:
        return f"one value for {most / len(column):.0%} of the items: {_shown(values.mode()[0])}"
    if not numeric and known >= FEW:
        single = column.explode().drop_nulls()
        if single.n_unique() >= 0.9 * len(single) and single.value_counts()["count"].max() < FEW:  # type: ignore[operator]
            return "a different value for (nearly) every item"
    return ""


def common_values(column: pl.Series) -> list[tuple[str, float]]:
    """Values that (nearly) all items have, and their share: they make no concepts."""
    if column.dtype != CATEGORICAL:
        return []
    counts = column.explode().drop_nulls().value_counts(sort=True).rows()
    return [(value, count / len(column)) for value, count in counts if count > NEARLY_ALL * len(column)]


def _numbers_or_text(text: pl.Series) -> AttributeColumn:
    numbers = text.cast(pl.Float64, strict=False)
    numbers = numbers.set(~numbers.is_finite(), None)
    odd = text.filter(text.is_not_null() & numbers.is_null())
    known, example = text.count(), repr(odd[0]) if len(odd) else ""
    if known and (10 * len(odd) <= known or (len(odd) == 1 and known >= 5)):
        warning = f"{len(odd)} of {known} values are no numbers, as {example}: taken for unknown" if len(odd) else ""
        return AttributeColumn(numbers, warning=warning)
    mixed = f"{known - len(odd)} of {known} values are numbers, others are not, as {example}: all are read as text"
    return AttributeColumn(_one_each(text), warning=mixed if 2 * len(odd) < known else _packed(text))


def _packed(text: pl.Series) -> str:
    """A warning if many values hold a bar, as if they were several values."""
    barred = text.filter(text.str.contains("|", literal=True).fill_null(False))
    if 10 * len(barred) <= text.count():
        return ""
    return (
        f"{len(barred)} of {text.count()} values hold '|', as {barred[0]!r}: each is read as one value. If they are several, "
        "give lists, in Parquet"
    )


def _one_each(text: pl.Series) -> pl.Series:
    return _lists(text.to_frame("text").select(pl.concat_list("text")).to_series())


def _lists(lists: pl.Series) -> pl.Series:
    """Without repetitions, surrounding whitespace and missing values."""
    stripped = pl.element().str.strip_chars()
    return lists.list.eval(stripped.filter(~stripped.str.to_lowercase().is_in(NO_VALUE))).list.unique(
        maintain_order=True
    )


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else repr(str(value).replace("\x1f", ", "))
