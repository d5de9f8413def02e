"""The item table: ids, titles and attributes."""

from typing import NamedTuple

import polars as pl

from steersman_training.data import attribute_columns as attributes
from steersman_training.data.columns import Columns, DataError, listed
from steersman_training.data.tables import Tables, readable
from steersman_training.data.titles import YEAR as TITLE_YEAR
from steersman_training.data.values import missing_value_words, missing_words, read_ids, read_titles

YEAR = "year"  # name of the numeric attribute with the year of an item
SUSPICIOUS = 0.05  # share of the rows left out beyond which there is a warning


class ItemTable(NamedTuple):
    """The items that have events, in the order of their ids, and what was left out."""

    items: pl.DataFrame  # `item_id`, `title` (text), then the attributes: lists of text or f64
    known: pl.Series | None = None  # whether each item has a row in the item table; None without one
    without_events: int = 0  # rows of the item table that were left out because no event names them
    malformed_rows: int = 0  # rows without an id, or with that of an earlier row
    columns: tuple[str, ...] = ()  # which column was read as what: "id: item_id"
    left_out: dict[str, str] = {}  # noqa: RUF012  (never changed)
    """Columns that are no attribute, and why."""
    warnings: tuple[str, ...] = ()
    examples: str = ""  # ids of the table, for messages


def read_items(tables: Tables, columns: Columns, ids: pl.Series) -> ItemTable:
    """A row for each of `ids`, filled from the item table. Raises DataError if it cannot be used."""
    wanted, where = pl.DataFrame({"item_id": ids}), tables.items_where
    if tables.items is None:
        for flag, given in (("--title-column", columns.title), ("--attribute-columns", columns.attributes)):
            if given:
                raise DataError(f"{flag}: there is no item table; give one with --items")
        return ItemTable(wanted.with_columns(title="item_id"))
    with readable(where):
        raw = tables.items.collect()
        id_column, title_column = (columns.find(role, raw.columns, where) for role in ("item of the table", "title"))
        id_column = id_column or columns.need("item of the table", raw.columns, where)
        title_column = title_column if title_column != id_column else None
        named = {"item_id": read_ids(raw[id_column])}
        named["title"] = read_titles(raw[title_column]) if title_column else named["item_id"]
        found, left_out, warnings = _attributes(raw, [id_column, title_column], columns, tables)
        rows = pl.DataFrame({**named, **found})
    known = rows.filter(pl.col("item_id").is_not_null()).unique("item_id", keep="first", maintain_order=True)
    items = wanted.join(known, on="item_id", how="left", maintain_order="left").with_columns(
        pl.col("title").fill_null(pl.col("item_id")),
        pl.col(attributes.CATEGORICAL).fill_null(pl.lit([], dtype=attributes.CATEGORICAL)),
    )
    items = _with_years(items)
    has_row = ids.is_in(known["item_id"].implode())
    if not columns.attributes:
        silent = {name: why for name in found if (why := attributes.says_nothing(items.filter(has_row)[name]))}
        items, left_out = items.drop(silent), left_out | silent
    malformed = rows.height - known.height
    if malformed > SUSPICIOUS * rows.height:
        warnings.append(
            f"{where}: {malformed} of {rows.height} rows have no id or that of an earlier row, and are left out. Give each "
            "item one row; several values of an attribute go into a list, in Parquet."
        )
    if words := missing_words(raw[id_column]):
        warnings.append(f"{where}: column {id_column!r}: {words} is taken for a missing id")
    roles = _roles(raw, id_column, title_column, items.filter(has_row))
    examples = ", ".join(map(repr, known["item_id"].head(2)))
    unused = known.height - int(has_row.sum())
    return ItemTable(items, has_row, unused, malformed, roles, left_out, tuple(warnings), examples)


def _attributes(
    raw: pl.DataFrame, taken: list[str | None], columns: Columns, tables: Tables
) -> tuple[dict[str, pl.Series], dict[str, str], list[str]]:
    """The columns that can be attributes, those that cannot and why, and warnings."""
    chosen = columns.chosen_attributes(raw.columns, tables.items_where)
    if wrong := [name for name in chosen if name in (*taken, "item_id", "title", "")]:
        raise DataError(
            f"{tables.items_where}: column {wrong[0]!r} can be no attribute (--attribute-columns): it is the id or the title, "
            "or called as these are"
        )
    found: dict[str, pl.Series] = {}
    left_out, warnings = {}, []
    for name in (name for name in raw.columns if name not in taken):
        if chosen and name not in chosen:
            left_out[name] = "not among --attribute-columns"
        elif name in ("item_id", "title"):
            left_out[name] = "another column has its part"
        elif not chosen and attributes.is_row_number(raw[name]):
            left_out[name] = "row numbers" + (f"; if not: --attribute-columns {name!r}" if name else "")
        else:
            values, why, warning = attributes.read_attribute(raw[name], tables.items_are_text)
            if values is None:
                left_out[name] = why
            else:
                found[name] = values
            if warning:
                warnings.append(f"{tables.items_where}: column {name!r}: {warning}")
    return found, left_out, warnings


def _roles(raw: pl.DataFrame, id_column: str, title_column: str | None, items: pl.DataFrame) -> tuple[str, ...]:
    """Which column of an item table was read as what. `items`: those that have a row."""
    described, common = [], []
    for name in items.columns[2:]:
        kind = "numbers, from the titles"
        if name in raw.columns:
            numeric = items.schema[name] == pl.Float64
            values = items[name] if numeric else items[name].list.first()
            kind = ("numbers" if numeric else "values") + _unknown(values, missing_value_words(raw[name]))
        described.append(f"{name} ({kind})")
        common += [f"{name}:{value} ({share:.0%})" for value, share in attributes.common_values(items[name])]
    title = "title: none, the ids instead (--title-column names one)"
    if title_column:
        column = raw[title_column]
        title = f"title: {listed([title_column])}{_unknown(read_titles(column), missing_words(column))}"
    attributed = f"attributes: {', '.join(described) or 'none'}"
    shared = [f"of (nearly) all items, so no concept: {', '.join(common)}"] if common else []
    return f"id: {listed([id_column])}", title, attributed, *shared


def _unknown(values: pl.Series, words: str) -> str:
    count = values.null_count()
    return (f", {count:,} unknown" + (f" (as {words})" if words else "")) if count else ""


def _with_years(items: pl.DataFrame) -> pl.DataFrame:
    """With the years at the end of titles as a numeric attribute, if most titles have one and no column gives it."""
    years = items["title"].str.extract(TITLE_YEAR).cast(pl.Float64)
    given = YEAR in map(str.lower, items.columns) or 2 * years.count() <= items.height
    return items if given else items.with_columns(years.alias(YEAR))
