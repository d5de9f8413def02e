"""A bundle's folder holds what its manifest names, and what is loaded was hashed."""

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from steersman_service.bundle.bundle import Bundle, load_bundle
from steersman_service.bundle.files import map_array, read_manifest
from steersman_service.engine.backends.onnx_external import ExternalDataError, external_files
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.golden import replay_golden
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.index.lists import Lists
from steersman_service.engine.loading import load_engine
from steersman_service.engine.options import EngineOptions
from steersman_service.errors import BundleError
from tests.service.bundle.test_bundle import copy, load, refused, resign
from tests.service.engine.test_index import indexed_dir

__all__ = ["copy", "indexed_dir"]


@pytest.mark.parametrize("name", [".DS_Store", "._items.npy", "items.npy~", "notes.txt", "a\nb", "edit.data"])
def test_a_file_that_the_manifest_does_not_name_is_refused(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"x")
    refused(copy, name if name.isprintable() else repr(name), "holds nothing else: remove it from")


def test_all_files_that_the_manifest_does_not_name_are_told_at_once(copy: Path) -> None:
    for name in ("notes.txt", "._edit.onnx", *(f"z{number}" for number in range(10))):
        (copy / name).write_bytes(b"x")
    refused(copy, "._edit.onnx", r"\(nor notes\.txt, z0, .*, z6 and 3 more\).* remove them from")


def test_folders_links_and_pipes_are_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "more").mkdir()
    refused(copy, "more", "a folder that manifest.json does not name")
    (copy / "more").rmdir()
    for name in ("edit.onnx", "items.npy", "items.parquet", "golden.npz"):
        (copy / name).rename(tmp_path / name)
        (copy / name).symlink_to(tmp_path / name)
        refused(copy, name, "is a symbolic link")
        (copy / name).unlink()
        os.mkfifo(copy / name)
        refused(copy, name, "is a pipe")
        (copy / name).unlink()
        (copy / name).mkdir()
        refused(copy, name, "is a folder")
        (copy / name).rmdir()
        shutil.copy(tmp_path / name, copy / name)
    load(copy)
    (copy / "manifest.json").rename(tmp_path / "manifest.json")
    (copy / "manifest.json").symlink_to(tmp_path / "manifest.json")
    refused(copy, "manifest.json", "symbolic link|symbolic links")


@pytest.mark.parametrize(
    "name", ["../x", "/x", "more/x", "a\\b", "x\0y", "", ".", "..", ".hidden", "x y", "x\n", "é", "x" * 300]
)
def test_a_name_that_is_no_plain_name_is_refused(copy: Path, name: str) -> None:
    resign(copy, lambda manifest: manifest["files"].update({name: {"size": "1"}}))
    refused(copy, "manifest.json", "names a file outside the bundle, or none")


def test_names_that_differ_by_case_and_the_manifest_itself_are_refused(copy: Path) -> None:
    shutil.copy(copy / "edit.onnx", copy / "Edit.onnx")
    resign(copy, lambda manifest: manifest["files"].update({"Edit.onnx": manifest["files"]["edit.onnx"]}))
    refused(copy, "manifest.json", "one file where case does not count")
    (copy / "Edit.onnx").unlink()
    resign(copy, lambda manifest: manifest["files"].pop("Edit.onnx"))
    resign(copy, lambda manifest: manifest["files"].update({"Manifest.json": {"size": "1"}}))
    refused(copy, "manifest.json", "names itself")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format_major": 1, "a": "\\ud800"}', "\udcff", "null", ""])
def test_a_manifest_that_is_no_json_of_ours_is_refused(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(copy, "manifest.json", "cannot be read|not a JSON object")


def test_a_manifest_with_any_byte_changed_or_cut_off_is_refused(copy: Path) -> None:
    """Or reads the same: of a number's many digits, the last one may not count."""
    path, manifest = copy / "manifest.json", read_manifest(copy)
    plain = path.read_bytes()
    for place in range(0, len(plain) - 1, 31):
        for spoilt in (plain[:place] + bytes([plain[place] ^ 1]) + plain[place + 1 :], plain[:place]):
            path.write_bytes(spoilt)
            with contextlib.suppress(BundleError):
                assert read_manifest(copy) == manifest
    with path.open("wb") as file:
        file.truncate(17 << 20)  # nothing but a hole
    refused(copy, "manifest.json", "is it a manifest")


def test_the_head_of_an_array_with_any_byte_changed_is_refused_or_read(copy: Path) -> None:
    plain, manifest = (copy / "biases.npy").read_bytes(), load_bundle(copy, "onnx").manifest
    for place in range(128):
        for value in (0, ord("("), ord("9"), plain[place] ^ 1, plain[place] ^ 128):
            spoilt = plain[:place] + bytes([value]) + plain[place + 1 :]
            (copy / "biases.npy").unlink()
            (copy / "biases.npy").write_bytes(spoilt)
            manifest.files["biases.npy"].sha256 = hashlib.sha256(spoilt).hexdigest()
            with contextlib.suppress(BundleError):
                map_array(copy, "biases.npy", manifest)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_that_was_spoilt_before_it_was_hashed_is_refused_or_read(copy: Path) -> None:
    """Whatever is wrong in it, no reader fails in a way of its own."""
    rng = np.random.default_rng(0)
    for name in (
        "golden.npz",
        "items.parquet",
        "features.parquet",
        "concepts.parquet",
        "histories.parquet",
        "edit.onnx",
        "edit.ts",
    ):
        plain = (copy / name).read_bytes()
        for place in rng.integers(len(plain), size=3).tolist():
            (copy / name).write_bytes(plain[:place] + bytes([plain[place] ^ 85]) + plain[place + 1 :])
            resign(copy)
            with contextlib.suppress(BundleError):
                load(copy, "torch" if name.endswith(".ts") else "onnx")
        (copy / name).write_bytes(plain)


def externalised(folder: Path, location: str) -> bytes:
    """Moves the weights of edit.onnx to another file; shapes and counts stay, which ONNX Runtime wants at hand. Returns them."""
    model = onnx.load(folder / "edit.onnx")
    convert_model_to_external_data(model, location="moved.data", size_threshold=64)
    onnx.save(model, folder / "edit.onnx")
    moved = folder / "moved.data"
    content = moved.read_bytes()
    moved.unlink()
    model = onnx.load(folder / "edit.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    onnx.save(model, folder / "edit.onnx")
    return content


@pytest.mark.parametrize("location", ["edit.data", "../edit.data", "/tmp/edit.data", "*/_ORT_MEM_ADDR_/*"])
def test_weights_in_a_file_that_the_manifest_does_not_name_are_refused(
    copy: Path, tmp_path: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever that file is: ONNX Runtime would find one in the working folder."""
    content = externalised(copy, location)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edit.data").write_bytes(content)
    resign(copy)
    refused(copy, "edit.onnx", "not among the files of the manifest")


def test_weights_in_a_file_of_the_manifest_are_loaded_as_they_were_hashed(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = externalised(copy, "edit.data")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edit.data").write_bytes(bytes(len(content)))  # not this one
    (copy / "edit.data").write_bytes(content)
    resign(copy, lambda manifest: manifest["files"].update({"edit.data": {}}))
    resign(copy)
    load(copy)
    bundle = load_bundle(copy, "onnx")
    (copy / "edit.data").write_bytes(bytes(len(content)))
    with pytest.raises(BundleError, match=r"edit\.data: checksum differs"):
        load_backend(bundle, "onnx", "cpu", 1)


def external(location: str = "scan.data") -> TensorProto:
    tensor = TensorProto(name="w", dims=[1], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def with_node(**attribute: Any) -> onnx.ModelProto:
    return helper.make_model(helper.make_graph([helper.make_node("Constant", [], ["y"], **attribute)], "g", [], []))


def subgraph() -> onnx.GraphProto:
    return helper.make_graph([], "inner", [], [], [external()])


def sparse() -> onnx.ModelProto:
    model = helper.make_model(helper.make_graph([], "g", [], []))
    model.graph.sparse_initializer.add(values=external())
    return model


def function() -> onnx.ModelProto:
    model = helper.make_model(helper.make_graph([], "g", [], []))
    model.functions.add(name="f", domain="d", node=with_node(value=external()).graph.node)
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda: with_node(value=external()),
        lambda: with_node(then_branch=subgraph()),
        lambda: with_node(bodies=[subgraph()]),
        lambda: with_node(values=[external()]),
        lambda: with_node(sparse_value=onnx.SparseTensorProto(indices=external())),
        sparse,
        function,
    ],
)
def test_external_data_of_anything_but_an_initializer_is_refused(make: Callable[[], onnx.ModelProto]) -> None:
    with pytest.raises(ExternalDataError, match="only initializers may"):
        external_files(make().SerializeToString(), {"scan.data"})


def test_where_initializers_lie() -> None:
    model = helper.make_model(helper.make_graph([], "g", [], [], [external(), external(), external("b.data")]))
    content = model.SerializeToString()
    assert sorted(external_files(content, {"scan.data", "b.data"})) == ["b.data", "scan.data"]
    with pytest.raises(ExternalDataError, match="not among the files"):
        external_files(content, {"scan.data"})
    for cut in range(1, len(content)):
        try:
            external_files(content[:cut], {"scan.data", "b.data"})
        except ExternalDataError:
            continue
    del model.graph.initializer[0].external_data[:]
    with pytest.raises(ExternalDataError, match="does not say in which"):
        external_files(model.SerializeToString(), {"scan.data", "b.data"})


def test_no_changed_byte_hides_where_weights_lie() -> None:
    """What protobuf itself reads as external is found, or the model refused."""
    model = helper.make_model(helper.make_graph([], "g", [], [], [external(), external("b.data")]))
    content, allowed, read = model.SerializeToString(), {"scan.data", "b.data"}, 0
    for place in range(len(content)):
        for value in range(256):
            spoilt = content[:place] + bytes([value]) + content[place + 1 :]
            with contextlib.suppress(DecodeError, ExternalDataError):
                tensors = onnx.ModelProto.FromString(spoilt).graph.initializer
                found = external_files(spoilt, allowed)
                outside = [tensor for tensor in tensors if tensor.data_location == TensorProto.EXTERNAL]
                assert {e.value for tensor in outside for e in tensor.external_data if e.key == "location"} <= {*found}
                read += bool(found)
    assert read > len(content)


def test_torchscript_that_reads_a_file_is_refused(copy: Path) -> None:
    class Reads(torch.nn.Module):
        def forward(self, h_BD: torch.Tensor) -> torch.Tensor:
            return h_BD + torch.from_file("weights", shared=False, size=16)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated upstream
        script: Any = torch.jit.script
        torch.jit.save(script(Reads()), str(copy / "upper.ts"))
    resign(copy)
    refused(copy, "upper.ts", "has weights in another file", "torch")


def test_lists_on_disk_are_refused(indexed_dir: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(indexed_dir, tmp_path / "bundle"))
    items_ND = np.load(folder / "items.npy")
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(18), 18, 2, faiss.METRIC_INNER_PRODUCT)
    index.train(np.zeros((2, 18), np.float32))
    lists: Any = faiss.OnDiskInvertedLists(2, index.code_size, str(tmp_path / "lists"))
    index.replace_invlists(lists)
    index.add(np.zeros((len(items_ND), 18), np.float32))
    faiss.write_index(index, str(folder / "index.faiss"))
    resign(folder)
    with pytest.raises(BundleError, match="lists, or has them in another file"):
        Lists(load_bundle(folder, "onnx"), 1)


def test_what_is_loaded_was_hashed(copy: Path) -> None:
    """A file that is replaced between the check and its use is found out, and a mapped one is the one that was hashed."""
    bundle = load_bundle(copy, "onnx")
    for name in ("edit.onnx", "edit.ts"):
        shutil.copy(copy / f"upper{name[4:]}", copy / name)
    for backend in ("onnx", "torch"):
        with pytest.raises(BundleError, match=r"edit\.\w+: has \d+ bytes"):
            load_backend(bundle, backend, "cpu", 1)
    before_ND = bundle.items_ND.copy()
    (copy / "items.npy").unlink()
    np.save(copy / "items.npy", np.zeros_like(before_ND))
    np.testing.assert_array_equal(bundle.items_ND, before_ND)


def test_a_bundle_of_format_1_2_loads(copy: Path) -> None:
    """It has one set of golden rows for each graph."""
    with np.load(copy / "golden.npz") as arrays:
        first = {name: array for name, array in arrays.items() if "/" not in name}
        assert len(first) < len(arrays)
    np.savez(copy / "golden.npz", **first)
    resign(copy, lambda manifest: manifest.update(format_minor=2))
    load(copy)
    load(copy, "torch")


def test_golden_rows_edit_every_feature_and_resolve_every_concept(bundle: Bundle) -> None:
    shape, golden = bundle.manifest.shape, bundle.golden
    assert {*golden["edit/features"]["features_BE"].flat} == set(range(shape.features))
    assert {*golden["add/features"]["features_BE"].flat} == set(range(shape.features))
    assert (golden["edit/features"]["z_BF"] > 0).any(0).mean() > 0.95, "and nearly all are active in some row"
    sets = [tensors for name, tensors in golden.items() if name.startswith("concept/concepts")]
    assert {int(row) for tensors in sets for row in tensors["concepts_BC"].flat} == set(range(shape.concepts))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("graph", ["edit", "add", "concept"])
def test_a_negated_feature_is_found_out(copy: Path, graph: str) -> None:
    """Of every graph that holds it, in ONNX and in TorchScript."""
    model, path = onnx.load(copy / f"{graph}.onnx"), copy / f"{graph}.onnx"
    load_script: Any = torch.jit.load
    script = load_script(str(copy / f"{graph}.ts"))
    tensors = dict(script.named_parameters()) | dict(script.named_buffers())
    of_script = next(value for name, value in tensors.items() if "decoder_FD" in name or "directions" in name)
    weights = [tensor for tensor in model.graph.initializer if np.prod(tensor.dims) == of_script.numel()]
    (of_model,) = [
        tensor
        for tensor in weights
        if np.allclose(np.sort(numpy_helper.to_array(tensor), None), np.sort(of_script.numpy(), None))
        and "encoder" not in tensor.name
    ]
    plain = numpy_helper.to_array(of_model).copy()
    turned = plain.shape == of_script.shape and np.array_equal(plain, of_script.numpy())
    rows = list(np.ndindex(*of_script.shape[:-1]))
    for row in rows[:: max(1, len(rows) // 3)]:
        if not of_script[row].any():
            continue
        changed = plain if turned else plain.swapaxes(-1, -2)
        changed = changed.copy()
        changed[row] *= -1
        of_model.CopyFrom(
            numpy_helper.from_array(
                np.ascontiguousarray(changed if turned else changed.swapaxes(-1, -2)), of_model.name
            )
        )
        path.write_bytes(model.SerializeToString())
        with torch.no_grad():
            of_script[row].mul_(-1)
        torch.jit.save(script, str(copy / f"{graph}.ts"))
        with torch.no_grad():
            of_script[row].mul_(-1)
        resign(copy)
        for backend, suffix in (("onnx", ".onnx"), ("torch", ".ts")):
            refused(copy, graph + suffix, "differs from the golden rows", backend)


def negated(value: np.ndarray) -> np.ndarray:
    return -value


def swapped(table_FD: np.ndarray) -> np.ndarray:
    """Two rows that are checked in the same run."""
    return table_FD[[1, 0, *range(2, len(table_FD))]]


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_directions_and_scales_that_are_not_those_of_the_graphs_are_refused(copy: Path, backend: str) -> None:
    plain_FD = np.load(copy / "decoder.npy")
    scales = pq.read_table(copy / "features.parquet")["scale"].to_numpy()
    for feature in np.flatnonzero(scales > 0)[::9].tolist() if backend == "onnx" else [0]:
        changed_FD = plain_FD.copy()
        changed_FD[feature] *= -1
        rewrite(copy / "decoder.npy", changed_FD)
        refused(copy, "decoder.npy", f"is not what edit.* among features {feature // 16 * 16} to", backend)
    rewrite(copy / "decoder.npy", swapped(plain_FD))
    refused(copy, "decoder.npy", "among features 0 to 15; copy", backend)
    rewrite(copy / "decoder.npy", np.full_like(plain_FD, np.nan))
    refused(copy, "decoder.npy", "more such groups", backend)
    with pytest.raises(BundleError, match="not what edit"):
        load_engine(copy, EngineOptions(backend="torch" if backend == "torch" else "onnx"))
    rewrite(copy / "decoder.npy", plain_FD)
    load(copy, backend)
    features = pq.read_table(copy / "features.parquet")
    place = features.column_names.index("scale")
    pq.write_table(features.set_column(place, "scale", pa.array(scales * 1.1, pa.float32())), copy / "features.parquet")
    resign(copy)
    refused(copy, "decoder.npy", "with the scales of features.parquet", backend)
    pq.write_table(features.drop_columns(["scale"]), copy / "features.parquet")
    resign(copy)
    refused(copy, "features.parquet", "no column 'scale'", backend)


def rewrite(file: Path, array: np.ndarray) -> None:
    file.unlink()  # mapped: to write into it would change the array that is in use
    np.save(file, array)
    resign(file.parent)


def test_golden_rows_are_not_needed_to_find_a_negated_feature(copy: Path) -> None:
    """Older bundles have few golden rows, or have none that edits this feature: `edit`, `add` and decoder.npy still have to agree."""
    with np.load(copy / "golden.npz") as arrays:
        first = {name: array for name, array in arrays.items() if "/" not in name}
    np.savez(copy / "golden.npz", **first)
    scales = pq.read_table(copy / "features.parquet")["scale"].to_numpy()
    touched = {*first["edit.features_BE"].flat, *first["add.features_BE"].flat}
    feature = next(f for f in range(len(scales)) if scales[f] > 0 and f not in touched)
    model = onnx.load(copy / "add.onnx")
    (weights,) = [tensor for tensor in model.graph.initializer if np.prod(tensor.dims) > len(scales)]
    changed = numpy_helper.to_array(weights).copy()
    changed[feature] *= -1
    weights.CopyFrom(numpy_helper.from_array(changed, weights.name))
    onnx.save(model, copy / "add.onnx")
    resign(copy)
    refused(copy, "add.onnx", rf"differs from edit\.onnx: .* among features {feature // 16 * 16} to")


def test_every_item_is_in_golden_rows(copy: Path) -> None:
    for name, column in (("items.npy", (slice(None), 3)), ("biases.npy", (slice(None),))):
        plain = np.load(copy / name)
        for item in range(0, len(plain), 20):
            changed = plain.copy()
            changed[(item, *column[1:])] += 0.02
            np.save(copy / name, changed)
            resign(copy)
            with pytest.raises(BundleError, match="differs from the golden rows"):
                load(copy)
        np.save(copy / name, plain)
    resign(copy)
    bundle = load_bundle(copy, "onnx")
    replay_golden(Graphs(bundle, load_backend(bundle, "onnx", "cpu", 1)))
    assert json.loads((copy / "manifest.json").read_text())["format_minor"] == 7


def test_any_file_that_is_altered_cut_off_longer_or_another_is_refused_by_name(copy: Path) -> None:
    rng = np.random.default_rng(1)
    names = sorted(read_manifest(copy).files)
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        plain = (copy / name).read_bytes()
        flipped = [
            plain[:place] + bytes([plain[place] ^ 1]) + plain[place + 1 :] for place in rng.integers(len(plain), size=2)
        ]
        for spoilt in (*flipped, plain[: len(plain) // 2], b"", plain + b"\0", (copy / other).read_bytes()):
            (copy / name).unlink()  # it may be mapped
            (copy / name).write_bytes(spoilt)
            with pytest.raises(BundleError) as caught:
                load_bundle(copy, "onnx")
            assert caught.value.file == name
        (copy / name).unlink()
        (copy / name).write_bytes(plain)
    load_bundle(copy, "onnx")
