"""The item table: ids, titles and attributes."""

from typing import NamedTuple

import polars as pl

from steersman_training.tables import Columns, readable
from steersman_training.titles import YEAR as TITLE_YEAR

CATEGORICAL = pl.List(pl.String)
YEAR = "year"
"""Name of the numeric attribute that says when an item is from."""


class ItemTable(NamedTuple):
    """The items that have events, in the order of their ids, and what was left out."""

    items: pl.DataFrame
    """`item_id`, `title` (text), then the attributes: lists of text or f64."""
    without_events: int = 0
    """Rows of the item table that were left out because no event names them."""
    without_row: int = 0
    """Items of events that the item table lacks: titled by their id, nothing known of them."""
    malformed_rows: int = 0
    """Rows without an id, or with that of an earlier row."""
    ignored_columns: tuple[str, ...] = ()
    """Columns that can be no attribute."""


def read_items(table: pl.LazyFrame | None, columns: Columns, ids: pl.Series) -> ItemTable:
    """A row for each of `ids`, filled from `table` as far as that goes. Raises DataError if it cannot be used."""
    wanted = pl.DataFrame({"item_id": ids})
    if table is None:
        return ItemTable(wanted.with_columns(title="item_id"), without_row=ids.len())
    schema = table.collect_schema()
    id_column, title_column = columns.of_items(schema.names(), "item table")
    named = {"item_id": pl.col(id_column).cast(pl.String)}
    named["title"] = pl.col(title_column).cast(pl.String) if title_column else named["item_id"]
    others = [name for name in schema.names() if name not in (id_column, title_column, *named)]
    attributes = {name: made for name in others if (made := _attribute(pl.col(name), schema[name])) is not None}
    with readable("item table"):
        rows = table.select(**named, **attributes).collect()
    known = rows.filter(pl.col("item_id") != "").unique("item_id", keep="first", maintain_order=True)
    matched = known.join(wanted, on="item_id", how="semi").height
    items = wanted.join(known, on="item_id", how="left", maintain_order="left").with_columns(
        pl.col("title").fill_null(pl.col("item_id")),
        pl.col(CATEGORICAL).fill_null(pl.lit([], dtype=CATEGORICAL)),
    )
    return ItemTable(
        items=_with_years(items),
        without_events=known.height - matched,
        without_row=ids.len() - matched,
        malformed_rows=rows.height - known.height,
        ignored_columns=tuple(name for name in others if name not in attributes),
    )


def _with_years(items: pl.DataFrame) -> pl.DataFrame:
    """With the years that stand at the end of titles as a numeric attribute, where most titles have one and no column says it."""
    years = items["title"].str.extract(TITLE_YEAR).cast(pl.Float64)
    said = YEAR in map(str.lower, items.columns) or 2 * years.count() <= items.height
    return items if said else items.with_columns(years.alias(YEAR))


def _attribute(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    """A column as lists of distinct, non-empty text, or as finite f64; None if its type is neither."""
    if dtype.is_numeric():
        number = column.cast(pl.Float64)
        return pl.when(number.is_finite()).then(number)
    if isinstance(dtype, pl.List) and not dtype.inner.is_nested():
        texts = column.cast(CATEGORICAL)
    elif dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
        texts = pl.concat_list(column.cast(pl.String))
    else:
        return None
    return texts.list.eval(pl.element().filter(pl.element() != "")).list.unique(maintain_order=True)
