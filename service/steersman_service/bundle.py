"""A bundle, read and verified: format 1.2 of proto/README.md."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf import json_format

from steersman.v1.bundle_pb2 import Graph, Manifest
from steersman_service.errors import BundleError

FORMAT_MAJOR = 1
MANIFEST = "manifest.json"
GRAPHS = ("lower", "concept", "edit", "upper", "search")
# A bundle may lack these: then every history is computed from its first event on,
KEEPING_GRAPHS = ("keep", "append")
# activations are computed for edits that do not ask for them,
ADD = "add"
# and what this one says in one call takes four.
STEER = "steer"
OPTIONAL_GRAPHS = (*KEEPING_GRAPHS, ADD, STEER)
SUFFIXES = {"onnx": ".onnx", "torch": ".ts"}
# Of large catalogues only: a scan of all items that misses none of the best (with SCAN_DATA beside it), and lists that are quick.
SCAN, SCAN_DATA, LISTS = "scan.onnx", "scan.data", "index.faiss"
TABLES = ("items.parquet", "features.parquet", "concepts.parquet")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Bundle:
    """Everything that a server needs. Arrays are mapped, not read: several servers on a machine share their pages."""

    folder: Path
    """Real path: a later change of the link that led here does not matter."""
    manifest: Manifest
    items_ND: Array
    """Item table, float32."""
    biases_N: Array
    """Item biases, float32."""
    items: pa.Table
    features: pa.Table
    concepts: pa.Table
    golden: Mapping[str, Mapping[str, Array]]
    """Graph -> tensor -> value."""

    @property
    def version(self) -> str:
        return self.manifest.version

    @cached_property
    def graphs(self) -> dict[str, Graph]:
        """The graphs that this server knows, by name."""
        return {graph.name: graph for graph in self.manifest.graphs if graph.name in (*GRAPHS, *OPTIONAL_GRAPHS)}


def load_bundle(folder: Path, backend: str) -> Bundle:
    """Reads the bundle in `folder` for `backend` ("onnx" or "torch"); its graphs are not loaded yet.

    Raises BundleError, with the file and the reason, for whatever proto/README.md says is to be refused.
    """
    folder = folder.resolve()
    manifest = _read_manifest(folder)
    optional = [graph.name for graph in manifest.graphs if graph.name in OPTIONAL_GRAPHS]
    graphs = (f"{name}{SUFFIXES[backend]}" for name in (*GRAPHS, *optional))
    needed = ["items.npy", "biases.npy", "golden.npz", *TABLES, *graphs]
    needed += (SCAN, SCAN_DATA, LISTS) if manifest.HasField("index") else ()
    for name in needed:
        if name not in manifest.files:
            raise BundleError(name, f"not among the files of {MANIFEST}")
    for name in sorted(manifest.files):
        _verify_file(folder, name, manifest)
    items, features, concepts = (_read(folder / name, pq.read_table) for name in TABLES)
    bundle = Bundle(
        folder,
        manifest,
        _read(folder / "items.npy", _map_array),
        _read(folder / "biases.npy", _map_array),
        items,
        features,
        concepts,
        _read(folder / "golden.npz", _read_golden),
    )
    _check_shapes(bundle)
    return bundle


def _read_manifest(folder: Path) -> Manifest:
    try:
        document = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise BundleError(MANIFEST, f"there is none in {folder}; `steersman train` writes a bundle") from None
    except (OSError, ValueError) as error:
        raise BundleError(MANIFEST, f"cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise BundleError(MANIFEST, "is not a JSON object")
    # The version comes first: another major version may not even parse as ours.
    major = document.get("format_major")
    if major != FORMAT_MAJOR:
        raise BundleError(MANIFEST, f"format version {major}; this server knows version {FORMAT_MAJOR} only")
    version = document.pop("version", None)
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    actual = hashlib.sha256(canonical.encode()).hexdigest()
    if version != actual:
        raise BundleError(MANIFEST, f"was changed: its version is {version}, its content hashes to {actual}")
    try:
        return json_format.ParseDict(document | {"version": version}, Manifest(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise BundleError(MANIFEST, f"is no manifest: {error}") from error


def _verify_file(folder: Path, name: str, manifest: Manifest) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise BundleError(MANIFEST, f"names a file outside the bundle: {name!r}")
    wanted = manifest.files[name]
    try:
        size = (folder / path).stat().st_size
        if size != wanted.size:
            raise BundleError(name, f"has {size} bytes, the manifest says {wanted.size}")
        with (folder / path).open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise BundleError(name, "is missing") from None
    except OSError as error:
        raise BundleError(name, f"cannot be read: {error}") from error
    if actual != wanted.sha256:
        raise BundleError(name, f"checksum differs: {actual}, the manifest says {wanted.sha256}")


def _read(path: Path, reader: Any) -> Any:
    # A file may have the right checksum and still not be what its name says.
    try:
        return reader(path)
    except Exception as error:
        raise BundleError(path.name, f"cannot be read: {error}") from error


def _map_array(path: Path) -> Array:
    array: Array = np.load(path, mmap_mode="r")
    return array


def _read_golden(path: Path) -> dict[str, dict[str, Array]]:
    golden: dict[str, dict[str, Array]] = defaultdict(dict)
    with np.load(path) as arrays:
        for key in arrays.files:
            graph, _, tensor = key.partition(".")
            golden[graph][tensor] = arrays[key]
    return dict(golden)


def _check_shapes(bundle: Bundle) -> None:
    shape, window = bundle.manifest.shape, bundle.manifest.window
    if not 1 <= window.stride <= window.length:
        raise BundleError(MANIFEST, f"window of length {window.length} and stride {window.stride}")
    if bundle.manifest.hook.positions != "last":
        raise BundleError(MANIFEST, f"hook at positions {bundle.manifest.hook.positions!r}; only 'last' is known")
    if missing := sorted(set(GRAPHS) - bundle.graphs.keys()):
        raise BundleError(MANIFEST, f"describes no graph {', '.join(missing)}")
    for name, array, wanted in (
        ("items.npy", bundle.items_ND, (shape.items, shape.hidden)),
        ("biases.npy", bundle.biases_N, (shape.items,)),
    ):
        if array.shape != wanted or array.dtype != np.float32:
            raise BundleError(name, f"is {array.dtype} of shape {array.shape}, wanted float32 of {wanted}")
    tables = (bundle.items, bundle.features, bundle.concepts)
    for name, table, rows in zip(TABLES, tables, (shape.items, shape.features, shape.concepts), strict=True):
        if table.num_rows != rows:
            raise BundleError(name, f"has {table.num_rows} rows, the manifest says {rows}")
