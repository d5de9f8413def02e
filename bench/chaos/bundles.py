"""Bundles that differ in nothing but the titles of their items, so that an answer shows which one it was made from."""

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ITEMS = "items.parquet"


def marked(bundle: Path, into: Path, mark: str) -> Path:
    """A copy in `into`, under its own version, whose titles end in `mark`."""
    copy = Path(shutil.copytree(bundle, into / "copy", symlinks=False))
    table = pq.read_table(copy / ITEMS)
    titles = pa.array([f"{title}{mark}" for title in table["title"].to_pylist()])
    pq.write_table(table.set_column(table.column_names.index("title"), "title", titles), copy / ITEMS)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest.pop("version")
    data = (copy / ITEMS).read_bytes()
    manifest["files"][ITEMS].update(sha256=hashlib.sha256(data).hexdigest(), size=str(len(data)))
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    version = hashlib.sha256(canonical.encode()).hexdigest()
    (copy / "manifest.json").write_text(json.dumps({"version": version, **manifest}))
    return copy.rename(into / version)


def point(link: Path, folder: Path) -> None:
    """At once: a reader finds the old one or the new one."""
    new = link.with_name(f"{link.name}.new")
    new.symlink_to(folder)
    new.rename(link)
