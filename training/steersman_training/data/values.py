"""Values as files hold them: what is missing, which ids are the same, and what is a number."""

import polars as pl

MISSING = (
    *("", "NULL", "Null", "null", "(null)", "\\N", "None", "none", "NONE", "nil", "undefined", "NaT", "-", "--", "?"),
    *("N/A", "n/a", "NA", "#N/A", "#NA", "#N/A N/A", "<NA>", "NaN", "nan", "NAN", "-NaN", "-nan"),
)
"""What programs write where there is nothing, whitespace around it aside."""


def present(column: pl.Series) -> pl.Series:
    """As text without whitespace around it; null where there is nothing, or a word for it."""
    text = column.cast(pl.String).str.strip_chars()
    return text.set(text.is_in(MISSING), None)


def missing_words(column: pl.Series) -> str:
    """The commonest words for nothing in a column, for messages: "NULL, nan"; empty text is none."""
    if column.dtype != pl.String:
        return ""
    text = column.str.strip_chars()
    words = text.filter(text.is_in(MISSING[1:])).value_counts(sort=True).head(3)
    return ", ".join(words.to_series(0).to_list())


def read_ids(column: pl.Series) -> pl.Series:
    """Ids as text. Whole numbers that came as floats (7.0, "7.0") are 7, unless some of the column have a fraction."""
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
    """Titles as text. A word for nothing is a title where one item alone has it: there are films of such names."""
    text = column.cast(pl.String).str.strip_chars()
    return text.set((text == "") | (text == "\\N") | (text.is_in(MISSING) & text.is_duplicated()), None)


def read_numbers(column: pl.Series) -> pl.Series:
    """Integers or finite floats, whichever understands most of it; null for the rest."""
    if column.dtype.is_integer():
        return column.cast(pl.Int64, strict=False)
    readings = [column.cast(pl.Int64, strict=False)] if column.dtype == pl.String else []
    floats = column.cast(pl.Float64, strict=False)
    readings.append(floats.set(~floats.is_finite(), None))
    return min(readings, key=pl.Series.null_count)
