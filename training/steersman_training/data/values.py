"""Values as files hold them: missing values, ids and numbers."""

import polars as pl

MISSING = (
    *("", "NULL", "Null", "null", "(null)", "\\N", "None", "none", "NONE", "nil", "undefined", "NaT", "-", "--", "?"),
    *("N/A", "n/a", "NA", "#N/A", "#NA", "#N/A N/A", "<NA>", "NaN", "nan", "NAN", "-NaN", "-nan"),
)
"""Words that programs write for a missing value, without surrounding whitespace."""
NO_VALUE = frozenset(word.casefold() for word in (*MISSING, "unknown", "(unknown)", "(no genres listed)"))
"""Words for a missing value of an attribute, in whatever case. Ids and times are read more strictly: a person may be called Nan."""


def present(column: pl.Series) -> pl.Series:
    """As text without surrounding whitespace; null where the value is missing."""
    text = column.cast(pl.String).str.strip_chars()
    return text.set(text.is_in(MISSING), None)


def present_values(column: pl.Series) -> pl.Series:
    """As `present`, of an attribute."""
    text = column.cast(pl.String).str.strip_chars()
    return text.set(text.str.to_lowercase().is_in(NO_VALUE), None)


def missing_words(column: pl.Series) -> str:
    """The commonest words for a missing id or time in a column, for messages: "NULL, nan"."""
    if column.dtype != pl.String:
        return ""
    text = column.str.strip_chars()
    return _commonest(text.filter(text.is_in(MISSING[1:])))


def missing_value_words(column: pl.Series) -> str:
    """As `missing_words`, of an attribute, whose values may be lists."""
    if column.dtype == pl.List(pl.String):
        column = column.explode()
    if column.dtype != pl.String:
        return ""
    text = column.str.strip_chars()
    return _commonest(text.filter(text.str.to_lowercase().is_in(NO_VALUE - {""})))


def _commonest(words: pl.Series) -> str:
    return ", ".join(words.value_counts(sort=True).head(3).to_series(0).to_list())


def read_ids(column: pl.Series) -> pl.Series:
    """Ids as text. Whole numbers stored as floats (7.0, "7.0") become 7, unless some of the column have a fraction."""
    if column.dtype.is_float():
        column = column.set(~column.is_finite(), None)
        if (column != column.round()).any():
            return column.cast(pl.String)
        whole = column.cast(pl.Int64, strict=False).cast(pl.String)
        return whole.zip_with(whole.is_not_null(), column.cast(pl.String))
    text = present(column)
    if column.dtype.is_integer() or not text.str.contains(r"^-?\d+\.0+$").any():
        return text
    return text if text.str.contains(r"^-?\d+\.\d*[1-9]").any() else text.str.replace(r"^(-?\d+)\.0+$", "${1}")


def read_titles(column: pl.Series) -> pl.Series:
    """Titles as text. A word for a missing value is a title if only one item has it: films of such names exist."""
    text = column.cast(pl.String).str.strip_chars()
    return text.set((text == "") | (text == "\\N") | (text.is_in(MISSING) & text.is_duplicated()), None)


def read_numbers(column: pl.Series) -> pl.Series:
    """Integers or finite floats, whichever reads more of the column; null for the rest."""
    whole = column.cast(pl.Int64, strict=False)
    if column.dtype.is_integer():
        return whole
    floats = column.cast(pl.Float64, strict=False)
    floats = floats.set(~floats.is_finite(), None)
    return min([whole, floats] if column.dtype == pl.String else [floats], key=pl.Series.null_count)
