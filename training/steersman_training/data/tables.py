"""Raw tables: interactions and items as files hold them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import polars as pl

from steersman_training.data.columns import GUESSED, Columns, DataError

__all__ = ["GUESSED", "Columns", "DataError", "Tables", "open_tables", "readable", "scan"]

SEPARATORS = {".csv": ",", ".tsv": "\t"}
OTHER_SEPARATORS = (";", "\t", ",", "|")
DUPLICATED = re.compile(r"_duplicated_\d+$")
"""What polars adds to the second of two columns with one name."""


class Tables(NamedTuple):
    """What a source holds."""

    name: str
    """What the data is called in reports and bundles."""
    interactions: pl.LazyFrame
    items: pl.LazyFrame | None
    where: str
    """What error messages call the interactions."""
    items_where: str = "item table"
    items_are_text: bool = False
    """Whether the types of the item table's columns are still to be found out."""

    def with_items(self, path: Path) -> "Tables":
        """With the item table of a file."""
        return self._replace(items=scan(path), items_where=str(path), items_are_text=is_text(path))


def open_tables(path: Path) -> Tables:
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
    tables = Tables(path.name, scan(interactions), None, str(interactions))
    return tables.with_items(items) if items else tables


def is_text(path: Path) -> bool:
    return path.suffix.lower() in SEPARATORS


def scan(path: Path) -> pl.LazyFrame:
    """A file as a lazy table. Text files stay text: what a column means is decided when it is read."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with readable(str(path)):
        if path.suffix.lower() == ".parquet":
            frame = pl.scan_parquet(path)
        elif is_text(path):
            frame = pl.scan_csv(path, separator=_separator(path), infer_schema=False)
        else:
            raise DataError(f"{path}: of no known kind; give .parquet, .csv or .tsv")
        names = frame.collect_schema().names()  # An empty or broken file shows here.
        frame = frame.rename({name: name.strip() for name in names if name != name.strip()})
        names = frame.collect_schema().names()
    for name in names:
        original = DUPLICATED.sub("", name)
        if original and original != name and original in names:
            raise DataError(f"{path}: two columns are called {original!r}; rename one of them")
    return frame


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Turns what polars says of a broken file into a DataError."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        why = str(error).splitlines()[0]
        if "utf-8" in why.lower():
            why = f"it is not UTF-8. Write it anew: iconv -f WINDOWS-1252 -t UTF-8 {where} > new.csv"
        raise DataError(f"{where}: cannot be read: {why}") from error


def _separator(path: Path) -> str:
    """The usual one of its kind of file, or another one where the first line has none of that."""
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    if line[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in line:
        raise DataError(
            f"{path}: cannot be read: it is UTF-16. Write it anew: iconv -f UTF-16 -t UTF-8 {path} > new.csv"
        )
    if b"\r" in line.rstrip(b"\r\n"):
        raise DataError(
            f"{path}: cannot be read: its lines end in a bare carriage return. Write it anew: tr '\\r' '\\n' < {path} > new.csv"
        )
    usual = SEPARATORS[path.suffix.lower()]
    counts = {separator: line.count(separator.encode()) for separator in OTHER_SEPARATORS}
    return usual if counts[usual] or not any(counts.values()) else max(counts, key=lambda separator: counts[separator])


def _member(folder: Path, stem: str) -> Path | None:
    return next((path for kind in ("parquet", "csv", "tsv") if (path := folder / f"{stem}.{kind}").is_file()), None)
