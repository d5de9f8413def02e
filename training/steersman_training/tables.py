"""Raw tables: interactions and items as files hold them, and which of their columns is what."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

# Names that are understood without being told, best first.
GUESSES = {
    "user": ("user_id", "user", "userId"),
    "item": ("item_id", "item", "itemId", "movieId"),
    "timestamp": ("timestamp", "time"),
    "position": ("position",),
    "rating": ("rating",),
    "title": ("title", "name"),
}

SEPARATORS = {".csv": ",", ".tsv": "\t"}


class DataError(ValueError):
    """Data that cannot be used. The message names what is wrong and what would be right."""


@dataclass(frozen=True)
class Columns:
    """Names of the columns, where they differ from the common ones in `GUESSES`."""

    user: str | None = None
    item: str | None = None
    timestamp: str | None = None
    """Clock time: a number, a date, or text in ISO 8601. Goes before `position`, unless only that is named."""
    position: str | None = None
    """Place of an event in the history of its user."""
    rating: str | None = None
    title: str | None = None

    def find(self, role: str, names: list[str], where: str) -> str | None:
        """The column of `names` that plays a role, or None. Raises DataError if one was named that is not there."""
        given: str | None = getattr(self, role)
        if given is None:
            return next((guess for guess in GUESSES[role] if guess in names), None)
        if given not in names:
            raise DataError(f"{where}: no column {given!r} for the {role}; it has {', '.join(names)}")
        return given

    def need(self, role: str, names: list[str], where: str) -> str:
        """As `find`, but raises DataError if there is no such column."""
        if found := self.find(role, names, where):
            return found
        tried = ", ".join(GUESSES[role])
        raise DataError(f"{where}: no column for the {role} ({tried}); it has {', '.join(names)}. Name the right one.")

    def of_items(self, names: list[str], where: str) -> tuple[str, str | None]:
        """The columns of id and title in an item table, which need not call the id what the interactions call it."""
        named = self if self.item in names else replace(self, item=None)
        return named.need("item", names, where), named.find("title", names, where)


GUESSED = Columns()


class Tables(NamedTuple):
    """What a source holds."""

    name: str
    """What the data is called in reports and bundles."""
    interactions: pl.LazyFrame
    items: pl.LazyFrame | None
    where: str
    """What error messages call the interactions."""


def open_tables(path: Path, columns: Columns) -> Tables:
    """A file of interactions, or a folder with `interactions` and perhaps `items`, each as Parquet, CSV or TSV."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if path.is_file():
        return Tables(path.stem, scan(path), None, str(path))
    interactions, items = (_member(path, stem) for stem in ("interactions", "items"))
    if interactions is None:
        raise DataError(
            f"{path}: neither a MovieLens folder nor one with interactions.parquet, .csv or .tsv; it has "
            f"{', '.join(sorted(child.name for child in path.iterdir())) or 'nothing'}"
        )
    return Tables(path.name, scan(interactions), scan_items(items, columns) if items else None, str(interactions))


def scan(path: Path) -> pl.LazyFrame:
    """A file as a lazy table. Text files stay text: what a column means is decided when it is read."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with readable(str(path)):
        if path.suffix == ".parquet":
            frame = pl.scan_parquet(path)
        elif path.suffix in SEPARATORS:
            frame = pl.scan_csv(path, separator=SEPARATORS[path.suffix], infer_schema=False)
        else:
            raise DataError(f"{path}: of no known kind; give .parquet, .csv or .tsv")
        frame.collect_schema()  # An empty or broken file shows here.
    return frame


def scan_items(path: Path, columns: Columns) -> pl.LazyFrame:
    """An item table as a lazy table. In text files, columns of numbers are numeric, save ids and titles."""
    frame = scan(path)
    if path.suffix not in SEPARATORS:
        return frame
    text = {name: pl.String for name in columns.of_items(frame.collect_schema().names(), str(path)) if name}
    with readable(str(path)):
        return pl.scan_csv(path, separator=SEPARATORS[path.suffix], infer_schema_length=None, schema_overrides=text)


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Turns what polars says of a broken file into a DataError."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{where}: cannot be read: {str(error).splitlines()[0]}") from error


def _member(folder: Path, stem: str) -> Path | None:
    return next((path for kind in ("parquet", "csv", "tsv") if (path := folder / f"{stem}.{kind}").is_file()), None)
