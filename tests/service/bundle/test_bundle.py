"""What a reader refuses, naming the file and the reason, and what it accepts (proto/README.md)."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from steersman_service.bundle.bundle import load_bundle
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import Items
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.directions import check_directions
from steersman_service.engine.golden import replay_golden
from steersman_service.engine.graphs import Graphs
from steersman_service.errors import BundleError

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    """A bundle that a test may spoil."""
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def resign(folder: Path, change: Change = lambda manifest: None) -> None:
    """Changes the manifest and makes its checksums and version right again."""
    document = json.loads((folder / "manifest.json").read_text())
    document.pop("version")
    for name, entry in document["files"].items():
        if (folder / name).is_file():
            data = (folder / name).read_bytes()
            entry.update(sha256=hashlib.sha256(data).hexdigest(), size=str(len(data)))
    change(document)
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    version = hashlib.sha256(canonical.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"version": version, **document}))


def load(folder: Path, backend: str = "onnx") -> None:
    bundle = load_bundle(folder, backend)
    graphs = Graphs(bundle, load_backend(bundle, backend, "cpu", 1))
    replay_golden(graphs)
    check_directions(graphs)
    Catalogue(bundle, Items(bundle.items))


def refused(folder: Path, file: str, why: str, backend: str = "onnx") -> None:
    with pytest.raises(BundleError, match=why) as caught:
        load(folder, backend)
    assert caught.value.file == file


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_a_bundle_loads(bundle_dir: Path, backend: str) -> None:
    load(bundle_dir, backend)


def test_one_flipped_bit_is_found_in_every_file(copy: Path) -> None:
    for name in json.loads((copy / "manifest.json").read_text())["files"]:
        original = (copy / name).read_bytes()
        (copy / name).write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        refused(copy, name, "checksum")
        (copy / name).write_bytes(original)


def test_missing_and_cut_files(copy: Path) -> None:
    content = (copy / "items.npy").read_bytes()
    (copy / "items.npy").write_bytes(content[:-1])
    refused(copy, "items.npy", "bytes")
    (copy / "items.npy").unlink()
    refused(copy, "items.npy", "missing")
    (copy / "manifest.json").unlink()
    refused(copy, "manifest.json", "steersman train")


def test_a_changed_manifest(copy: Path) -> None:
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text.replace('"stride": 5', '"stride": 4'))
    refused(copy, "manifest.json", "was changed")
    (copy / "manifest.json").write_text(text[:-20])
    refused(copy, "manifest.json", "cannot be read")
    (copy / "manifest.json").write_text("[]")
    refused(copy, "manifest.json", "object")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda manifest: manifest.update(format_major=2), "format version 2"),
        (lambda manifest: manifest["files"].update({"../secret": {"size": "1"}}), "outside"),
        (lambda manifest: manifest["files"].update({"/etc/passwd": {"size": "1"}}), "outside"),
        (lambda manifest: manifest["window"].update(stride=0), "stride 0"),
        (lambda manifest: manifest["hook"].update(positions="all"), "positions"),
        (lambda manifest: manifest.update(graphs=manifest["graphs"][1:]), "no graph lower"),
        (lambda manifest: manifest.update(tolerances=[]), "no tolerance"),
        (lambda manifest: manifest["shape"].update(items="many"), "no manifest"),
    ],
)
def test_a_manifest_that_cannot_be_served(copy: Path, change: Change, why: str) -> None:
    resign(copy, change)
    refused(copy, "manifest.json", why)


def test_what_a_later_minor_version_may_add(copy: Path) -> None:
    added = ("attributes.npy", "attributes.parquet", "novelty.bin")

    def later(manifest: dict[str, Any]) -> None:
        manifest.update(format_minor=8, novelty={"a": 1})
        manifest["graphs"].append({"name": "sharpen", "inputs": [], "outputs": []})
        manifest["files"] |= {name: {"sha256": hashlib.sha256(b"x").hexdigest(), "size": "1"} for name in added}

    for name in added:
        (copy / name).write_bytes(b"x")
    for name, column in (("features.parquet", "label"), ("concepts.parquet", "name"), ("items.parquet", "title")):
        table = pq.read_table(copy / name)
        pq.write_table(table.append_column("novelty", table[column]), copy / name)
    resign(copy, later)
    for backend in ("onnx", "torch"):
        load(copy, backend)
    (copy / "novelty.bin").write_bytes(b"y")
    refused(copy, "novelty.bin", "checksum")


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("tensor", ["edit.edited_BD", "search.rows_BK", "lower.h_BD"])
def test_a_graph_that_does_not_replay_its_golden_rows(copy: Path, backend: str, tensor: str) -> None:
    with np.load(copy / "golden.npz") as arrays:
        golden = dict(arrays)
    golden[tensor].flat[0] += 1
    np.savez(copy / "golden.npz", **golden)
    resign(copy)
    graph, name = tensor.split(".")
    refused(copy, f"{graph}{'.onnx' if backend == 'onnx' else '.ts'}", f"{name} differs .* by up to 1", backend)


def test_files_that_are_not_what_they_should_be(copy: Path) -> None:
    (copy / "edit.onnx").write_bytes(b"no graph")
    resign(copy)
    refused(copy, "edit.onnx", "does not load")
    shutil.copy(copy / "upper.onnx", copy / "edit.onnx")
    resign(copy)
    refused(copy, "edit.onnx", "differ from the manifest")
    (copy / "items.parquet").write_bytes(b"no table")
    resign(copy)
    refused(copy, "items.parquet", "cannot be read")


def test_tables_that_do_not_fit(copy: Path) -> None:
    features = pq.read_table(copy / "features.parquet")
    pq.write_table(features.slice(1), copy / "features.parquet")
    resign(copy)
    refused(copy, "features.parquet", f"has {features.num_rows - 1} rows")
    pq.write_table(features.drop_columns(["label"]), copy / "features.parquet")
    resign(copy)
    refused(copy, "features.parquet", "no column 'label'")
    pq.write_table(features, copy / "features.parquet")
    items = pq.read_table(copy / "items.parquet")
    pq.write_table(items.take(list(reversed(range(items.num_rows)))), copy / "items.parquet")
    resign(copy)
    refused(copy, "items.parquet", "not sorted")


def test_the_first_bundles_have_no_descriptions(copy: Path) -> None:
    """What is clear is then told by confidence, which is 0 where no term fits."""
    features = pq.read_table(copy / "features.parquet")
    lacking = features.drop_columns([name for name in ("description", "kind") if name in features.column_names])
    pq.write_table(lacking, copy / "features.parquet")
    resign(copy, lambda manifest: manifest.update(format_minor=0))
    bundle = load_bundle(copy, "onnx")
    catalogue = Catalogue(bundle, Items(bundle.items))
    assert [feature.clear for feature in catalogue.features] == [bool(it) for it in features["confidence"].to_pylist()]


def test_the_decoder_may_be_lacking_but_not_of_another_shape(copy: Path) -> None:
    mapped_FD, decoder_FD = load_bundle(copy, "onnx").decoder_FD, np.load(copy / "decoder.npy")
    assert mapped_FD is not None
    assert np.array_equal(mapped_FD, decoder_FD)
    (copy / "decoder.npy").unlink()  # mapped: to cut it would pull it from under the array
    np.save(copy / "decoder.npy", decoder_FD[1:])
    resign(copy)
    refused(copy, "decoder.npy", "wanted float32")
    (copy / "decoder.npy").unlink()
    resign(copy, lambda manifest: manifest["files"].pop("decoder.npy"))
    assert load_bundle(copy, "onnx").decoder_FD is None
