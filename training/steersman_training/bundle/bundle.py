"""Writes a bundle (format 1.7 of proto/README.md), atomically."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from google.protobuf import json_format

from steersman.v1 import bundle_pb2
from steersman_training.bundle.card import CARD, model_card
from steersman_training.bundle.export import TOLERANCE, Array, ExportedGraphs, Tensors, write_graphs
from steersman_training.bundle.golden import golden_sets
from steersman_training.bundle.index import ItemVectors, write_lists, write_scan
from steersman_training.bundle.signing import MANIFEST, SIGNATURE, SigningKey, version_of

FORMAT = (1, 7)
DTYPES = {"torch.int64": "int64", "torch.float32": "float32", "torch.bool": "bool"}
ARRAYS = {"items_ND": "items.npy", "biases_N": "biases.npy"}


class Publication(NamedTuple):
    """What a bundle has for those that it is passed on to: a model card, and a signature if there is a key."""

    licence: str | None = None
    """Of the data."""
    key: SigningKey | None = None


def write_bundle(
    parent: Path,
    manifest: bundle_pb2.Manifest,
    graphs: ExportedGraphs,
    golden: dict[str, Tensors],
    tables: dict[str, pl.DataFrame],
    arrays: Mapping[str, Array],
    queries: Mapping[str, Array] | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
    publication: Publication | None = None,
) -> Path:
    """Writes a bundle into `parent` under its version, and points `parent/current` to it. Returns its folder.

    `manifest` lacks format, version, time, graphs, tolerances and files, which are added; `golden` are golden rows of every graph, to which
    sets are added that read every weight; `tables` and `arrays` are written by name; `queries` are those of held-out histories by kind,
    (Q, D), if there is to be an index. Without a `publication` there is no model card. An interrupted run leaves the current bundle
    unchanged.
    """
    parent.mkdir(parents=True, exist_ok=True)
    temporary = parent / f".writing-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        for name, table in graphs.tables.items():
            np.save(temporary / ARRAYS[name], table.numpy())
        golden = golden | golden_sets(graphs, golden)
        write_graphs(graphs, golden, temporary, report)
        if queries:
            items = ItemVectors(*(table.numpy() for table in graphs.tables.values()))
            write_scan(items, temporary)
            manifest.index.CopyFrom(write_lists(items, queries, temporary))
            manifest.figures["index.recall_at_20"] = min(manifest.index.efforts[0].recall.values())
        for name, frame in tables.items():
            frame.write_parquet(temporary / f"{name}.parquet")
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        rows = {f"{graph}.{name}": given[name].numpy() for graph, given in golden.items() for name in given}
        np.savez_compressed(temporary / "golden.npz", **rows)  # type: ignore[arg-type]  # numpy's stub has no **kwargs of arrays
        manifest.format_major, manifest.format_minor = FORMAT
        manifest.created = datetime.now(UTC).isoformat(timespec="seconds")
        if publication is not None:
            (temporary / CARD).write_text(model_card(manifest, tables, publication.licence), encoding="utf-8")
        version = _write_manifest(temporary, manifest, graphs, golden)
        if publication is not None and publication.key is not None:
            (temporary / SIGNATURE).write_bytes(publication.key.sign(version))
        for path in [*temporary.iterdir(), temporary]:
            _sync(path)
        folder = parent / version
        temporary.rename(folder)
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = getattr(error, "strerror", None) or error
        free = shutil.disk_usage(parent).free >> 20
        raise OSError(f"{parent}: the bundle cannot be written: {reason} ({free} MB are free)") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    link = parent / f".current-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(version)
    os.replace(link, parent / "current")
    _sync(parent)
    return folder


def _write_manifest(
    folder: Path, manifest: bundle_pb2.Manifest, graphs: ExportedGraphs, golden: dict[str, Tensors]
) -> str:
    for spec in graphs.specs:
        known = {**graphs.tables, **golden[spec.name]}
        tensor = lambda name, known=known: bundle_pb2.Tensor(name=name, dtype=DTYPES[str(known[name].dtype)])  # noqa: E731
        manifest.graphs.add(name=spec.name, inputs=map(tensor, spec.inputs), outputs=map(tensor, spec.outputs))
    for backend in ("onnx", "torch"):
        manifest.tolerances.add(backend=backend, dtype="float32", absolute=TOLERANCE, relative=TOLERANCE)
    name_files(manifest, folder)
    document: dict[str, Any] = json_format.MessageToDict(manifest, preserving_proto_field_name=True)
    document.pop("version", None)
    version = version_of(document)
    text = json.dumps({"version": version, **document}, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return version


def name_files(manifest: bundle_pb2.Manifest, folder: Path) -> None:
    """Adds every file of the folder, with its size and checksum: a reader accepts no other."""
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            manifest.files[path.name].sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        manifest.files[path.name].size = path.stat().st_size


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
