"""Raw tables: interactions and items as files hold them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import polars as pl

from steersman_training.data.columns import DataError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
OTHER_SEPARATORS = (";", "\t", ",", "|")
DUPLICATED = re.compile(r"_duplicated_\d+$")  # what polars adds to the second of two columns with one name


class Tables(NamedTuple):
    """The tables of a source."""

    name: str  # of the data, in reports and bundles
    interactions: pl.LazyFrame
    items: pl.LazyFrame | None
    where: str  # what error messages call the interactions
    items_where: str = "item table"
    items_are_text: bool = False  # whether the types of the item table's columns are unknown, as in CSV

    def with_items(self, path: Path) -> "Tables":
        """With the item table of a file."""
        is_text = path.suffix.lower() in SEPARATORS
        return self._replace(items=_scan(path), items_where=str(path), items_are_text=is_text)


def open_tables(path: Path) -> Tables:
    """A file of interactions, or a folder with `interactions` and perhaps `items`, each as Parquet, CSV or TSV."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder")
    if path.is_file():
        return Tables(path.stem, _scan(path), None, str(path))
    interactions, items = (
        next((file for kind in ("parquet", "csv", "tsv") if (file := path / f"{stem}.{kind}").is_file()), None)
        for stem in ("interactions", "items")
    )
    if not interactions:
        raise DataError(
            f"{path}: neither a MovieLens folder nor one with interactions.parquet, .csv or .tsv; "
            f"it has {', '.join(sorted(child.name for child in path.iterdir())) or 'nothing'}"
        )
    tables = Tables(path.name, _scan(interactions), None, str(interactions))
    return tables.with_items(items) if items else tables


def _scan(path: Path) -> pl.LazyFrame:
    """A file as a lazy table. Text files stay text: types are found when columns are read."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with readable(str(path)):
        if path.suffix.lower() == ".parquet":
            frame = pl.scan_parquet(path)
        elif path.suffix.lower() in SEPARATORS:
            frame = pl.scan_csv(path, separator=_separator(path), infer_schema=False)
        else:
            raise DataError(f"{path}: of no known kind; give .parquet, .csv or .tsv")
        names = frame.collect_schema().names()  # an empty or broken file fails here
        frame = frame.rename({name: name.strip() for name in names if name != name.strip()})
        names = frame.collect_schema().names()
    for name in names:
        original = DUPLICATED.sub("", name)
        if original and original != name and original in names:
            raise DataError(f"{path}: two columns are called {original!r}; rename one of them")
    return frame


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Turns polars' error about a broken file into a DataError."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        why = str(error).splitlines()[0]
        if "utf-8" in why.lower():
            why = f"it is not UTF-8. Write it anew: iconv -f WINDOWS-1252 -t UTF-8 {where} > new.csv"
        raise DataError(f"{where}: cannot be read: {why}") from error


def _separator(path: Path) -> str:
    """The usual separator of the kind of file, or the commonest other one if the first line has none of it."""
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    if line[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in line:
        problem, remedy = "it is UTF-16", f"iconv -f UTF-16 -t UTF-8 {path}"
    elif b"\r" in line.rstrip(b"\r\n"):
        problem, remedy = "its lines end in a bare carriage return", f"tr '\\r' '\\n' < {path}"
    else:
        usual = SEPARATORS[path.suffix.lower()]
        counts = {separator: line.count(separator.encode()) for separator in OTHER_SEPARATORS}
        return usual if counts[usual] or not any(counts.values()) else max(OTHER_SEPARATORS, key=counts.__getitem__)
    raise DataError(f"{path}: cannot be read: {problem}. Write it anew: {remedy} > new.csv")
