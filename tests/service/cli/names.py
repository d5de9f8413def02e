"""A bundle whose names are hard to print and to type."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.service.bundle.test_bundle import resign

TITLES = {
    0: "Song [live]",
    1: "A [/remix] B",
    2: ":books: tomorrow",
    3: "red \x1b[31malert\x1b[0m\nnext",
    4: "\u202eevil",
    5: "Star Wars (1977)",
    6: "Star Wars: Rebels",
    7: "The Alien",
    8: "Alien Nation",
    9: "Crouching Tiger, Hidden Dragon",
    10: "Amélie",
    11: "Twin",
    12: "Twin",
    13: "Terminator 2",
    14: "Terminator 3",
    15: "A very long title " * 10,
}
LONG_ID = "0" * 60 + "-long"
# In the order of ids, which rows keep.
IDS = {0: "0,1", 1: LONG_ID}
ATTRIBUTES = {"genres": "genre: main", "year": "a=b"}
CONCEPTS = {
    "genres:War": "f12=",
    "genres:Crime": "f12",
    "genres:Comedy": "category:books:fiction",
    "genres:Horror": "[b]=x",
}


def with_odd_names(bundle: Path, folder: Path) -> Path:
    """A copy of `bundle`."""
    copy = Path(shutil.copytree(bundle, folder / "bundle"))
    items = pq.read_table(copy / "items.parquet")
    titles = [TITLES.get(row, title) for row, title in enumerate(items["title"].to_pylist())]
    ids = [IDS.get(row, item_id) for row, item_id in enumerate(items["item_id"].to_pylist())]
    columns = {"title": pa.array(titles), "item_id": pa.array(ids)}
    for name, values in columns.items():
        items = items.set_column(items.column_names.index(name), name, values)
    items = items.rename_columns([ATTRIBUTES.get(name, name) for name in items.column_names])
    pq.write_table(items, copy / "items.parquet")
    concepts = pq.read_table(copy / "concepts.parquet")
    names = pa.array([CONCEPTS.get(str(name), str(name)) for name in concepts["name"].to_pylist()])
    attributes = pa.array([ATTRIBUTES.get(str(name), str(name)) for name in concepts["attribute"].to_pylist()])
    for column, values in {"name": names, "attribute": attributes}.items():
        concepts = concepts.set_column(concepts.column_names.index(column), column, values)
    pq.write_table(concepts, copy / "concepts.parquet")
    resign(copy)
    return copy
