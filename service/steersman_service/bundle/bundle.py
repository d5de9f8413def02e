"""A bundle, read and verified: format 1.5 of proto/README.md."""

import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from steersman.v1.bundle_pb2 import Graph, Manifest
from steersman_service.bundle import files
from steersman_service.bundle.files import AGAIN, MANIFEST
from steersman_service.errors import BundleError

GRAPHS = ("lower", "concept", "edit", "upper", "search")
# A bundle may lack the rest. Without KEEPING_GRAPHS, every history is computed from its first event on; without ADD, the activations are
# computed for edits that do not need them. Graphs of other names are ignored.
KEEPING_GRAPHS = ("keep", "append")
ADD = "add"
OPTIONAL_GRAPHS = (*KEEPING_GRAPHS, ADD)
SUFFIXES = {"onnx": ".onnx", "torch": ".ts"}
# The index of a large catalogue: an exact scan of all items (with its data), and approximate lists.
SCAN, SCAN_DATA, LISTS = "scan.onnx", "scan.data", "index.faiss"
ARRAYS = ("items.npy", "biases.npy")
# A bundle older than 1.5 lacks it.
DECODER = "decoder.npy"
TABLES = ("items.parquet", "features.parquet", "concepts.parquet")
GOLDEN = "golden.npz"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Bundle:
    """All that a server needs. Arrays are mapped, not read: several servers on a machine share their pages."""

    folder: Path
    """Resolved, so that a link that is turned elsewhere later does not matter."""
    manifest: Manifest
    items_ND: Array
    """Item table, float32."""
    biases_N: Array
    """Item biases, float32."""
    items: pa.Table
    features: pa.Table
    concepts: pa.Table
    golden: Mapping[str, Mapping[str, Array]]
    """Set of rows ("edit", "edit/features") -> tensor -> value."""
    decoder_FD: Array | None = None
    """Directions of the features, float32. None: the bundle is older than format 1.5."""

    @property
    def version(self) -> str:
        return self.manifest.version

    @cached_property
    def graphs(self) -> dict[str, Graph]:
        """The graphs that this server knows, by name."""
        return {graph.name: graph for graph in self.manifest.graphs if graph.name in (*GRAPHS, *OPTIONAL_GRAPHS)}

    def read(self, name: str) -> bytes:
        """A file of the bundle, hashed again. Raises BundleError if it was changed since the bundle was loaded."""
        return files.read_file(self.folder, name, self.manifest)


def load_bundle(folder: Path, backend: str) -> Bundle:
    """Reads the bundle in `folder` for `backend` ("onnx" or "torch"); its graphs are not loaded yet.

    Raises BundleError, with the file and the reason, for whatever proto/README.md says is to be refused.
    """
    folder = folder.resolve()
    manifest = files.read_manifest(folder)
    optional = [graph.name for graph in manifest.graphs if graph.name in OPTIONAL_GRAPHS]
    needed = [*ARRAYS, GOLDEN, *TABLES, *(f"{name}{SUFFIXES[backend]}" for name in (*GRAPHS, *optional))]
    needed += (SCAN, SCAN_DATA, LISTS) if manifest.HasField("index") else ()
    for name in needed:
        if name not in manifest.files:
            raise BundleError(name, f"not among the files of {MANIFEST}; {AGAIN}")
    files.check_listing(folder, manifest)
    for name in sorted(set(manifest.files) - {*ARRAYS, DECODER, *TABLES, GOLDEN}):
        files.verify_file(folder, name, manifest)
    items_ND, biases_N = (files.map_array(folder, name, manifest) for name in ARRAYS)
    decoder_FD = files.map_array(folder, DECODER, manifest) if DECODER in manifest.files else None
    items, features, concepts = (_read(folder, name, manifest, pq.read_table) for name in TABLES)
    golden = _read(folder, GOLDEN, manifest, _read_golden)
    bundle = Bundle(folder, manifest, items_ND, biases_N, items, features, concepts, golden, decoder_FD)
    _check_shapes(bundle)
    return bundle


def _read(folder: Path, name: str, manifest: Manifest, reader: Any) -> Any:
    content = io.BytesIO(files.read_file(folder, name, manifest))
    # A file may have the right checksum and still not be what its name says.
    try:
        return reader(content)
    except Exception as error:
        raise BundleError(name, f"cannot be read: {error}") from error


def _read_golden(content: io.BytesIO) -> dict[str, dict[str, Array]]:
    golden: dict[str, dict[str, Array]] = defaultdict(dict)
    with np.load(content) as arrays:
        for key in arrays.files:
            rows, _, tensor = key.partition(".")
            golden[rows][tensor] = arrays[key]
    return dict(golden)


def _check_shapes(bundle: Bundle) -> None:
    shape, window = bundle.manifest.shape, bundle.manifest.window
    if not 1 <= window.stride <= window.length:
        raise BundleError(MANIFEST, f"window of length {window.length} and stride {window.stride}")
    if bundle.manifest.hook.positions != "last":
        raise BundleError(MANIFEST, f"hook at positions {bundle.manifest.hook.positions!r}; only 'last' is known")
    if missing := sorted(set(GRAPHS) - bundle.graphs.keys()):
        raise BundleError(MANIFEST, f"describes no graph {', '.join(missing)}")
    arrays = {
        "items.npy": (bundle.items_ND, (shape.items, shape.hidden)),
        "biases.npy": (bundle.biases_N, (shape.items,)),
    }
    if bundle.decoder_FD is not None:
        arrays[DECODER] = (bundle.decoder_FD, (shape.features, shape.hidden))
    for name, (array, wanted) in arrays.items():
        if array.shape != wanted or array.dtype != np.float32:
            raise BundleError(name, f"is {array.dtype} of shape {array.shape}, wanted float32 of {wanted}")
    tables = (bundle.items, bundle.features, bundle.concepts)
    for name, table, rows in zip(TABLES, tables, (shape.items, shape.features, shape.concepts), strict=True):
        if table.num_rows != rows:
            raise BundleError(name, f"has {table.num_rows} rows, the manifest says {rows}")
