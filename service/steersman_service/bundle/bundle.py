"""A bundle, read and verified: format 1.7 of proto/README.md."""

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
from steersman_service.bundle.origins import check_may_run
from steersman_service.bundle.signatures import PublicKeys, check_signature
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
# A bundle older than 1.6 lacks it.
HISTORIES = "histories.parquet"
TABLES = ("items.parquet", "features.parquet", "concepts.parquet")
GOLDEN = "golden.npz"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Bundle:
    """All that a server needs. Large arrays are mapped, not read: several servers on a machine share their pages."""

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
    histories: pa.Table | None = None
    """Of users, without names: their last item rows, and the number of events before. None: the bundle is older than format 1.6."""
    keys: PublicKeys | None = None
    """By one of which this bundle is signed, and others have to be."""

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

    def manifest_of(self, folder: Path) -> Manifest:
        """That of another bundle, which has to be signed if this one has to. Raises BundleError."""
        return _manifest(folder, self.keys)


def load_bundle(folder: Path, backend: str, keys: Path | None = None) -> Bundle:
    """Reads the bundle in `folder` for `backend` ("onnx" or "torch"); its graphs are not loaded yet.

    `keys` are public ones, a file or a folder of *.pub, by one of which it has to be signed. Raises BundleError, with the file and the
    reason, for whatever proto/README.md says is to be refused, StartupError for `keys` that cannot be read.
    """
    folder = folder.resolve()
    known = PublicKeys.read(keys) if keys is not None else None
    manifest = _manifest(folder, known)
    if backend == "torch" and known is None:
        check_may_run(folder, manifest)
    optional = [graph.name for graph in manifest.graphs if graph.name in OPTIONAL_GRAPHS]
    needed = [*ARRAYS, GOLDEN, *TABLES, *(f"{name}{SUFFIXES[backend]}" for name in (*GRAPHS, *optional))]
    needed += (SCAN, SCAN_DATA, LISTS) if manifest.HasField("index") else ()
    for name in needed:
        if name not in manifest.files:
            raise BundleError(name, f"not among the files of {MANIFEST}; {AGAIN}")
    files.check_listing(folder, manifest)
    for name in sorted(set(manifest.files) - {*ARRAYS, DECODER, *TABLES, HISTORIES, GOLDEN}):
        files.verify_file(folder, name, manifest)
    items_ND, biases_N = (files.map_array(folder, name, manifest) for name in ARRAYS)
    decoder_FD = files.map_array(folder, DECODER, manifest) if DECODER in manifest.files else None
    items, features, concepts = (_read(folder, name, manifest, _read_table) for name in TABLES)
    histories = _read(folder, HISTORIES, manifest, _read_table) if HISTORIES in manifest.files else None
    golden = _read(folder, GOLDEN, manifest, _read_golden)
    bundle = Bundle(
        folder, manifest, items_ND, biases_N, items, features, concepts, golden, decoder_FD, histories, known
    )
    _check_shapes(bundle)
    if histories is not None:
        _check_histories(histories, manifest)
    return bundle


def _manifest(folder: Path, keys: PublicKeys | None) -> Manifest:
    manifest = files.read_manifest(folder)
    if keys is not None:
        check_signature(folder, manifest, keys)
    return manifest


def _read(folder: Path, name: str, manifest: Manifest, reader: Any) -> Any:
    content = io.BytesIO(files.read_file(folder, name, manifest))
    # A file may have the right checksum and still not be what its name says.
    try:
        return reader(content)
    except Exception as error:
        raise BundleError(name, f"cannot be read: {error}") from error


def _read_table(content: io.BytesIO) -> pa.Table:
    table = pq.read_table(content)
    table.validate(full=True)  # texts that are not UTF-8 would be found when they are used
    return table


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


def _check_histories(histories: pa.Table, manifest: Manifest) -> None:
    lists = (pa.list_(pa.int32()), pa.large_list(pa.int32()))
    for name, wanted in {"items": lists, "events_before": (pa.int64(),)}.items():
        if name not in histories.column_names:
            raise BundleError(HISTORIES, f"has no column {name}")
        if (kind := histories.schema.field(name).type) not in wanted:
            raise BundleError(HISTORIES, f"column {name} is {kind}, wanted {wanted[0]}")
    events: Any  # the stubs of pyarrow lack lists
    events, before = (histories[name].combine_chunks() for name in ("items", "events_before"))
    rows = events.flatten()
    if events.null_count or rows.null_count or before.null_count:
        raise BundleError(HISTORIES, "has an entry that is null")
    lengths, rows_S, before_H = (array.to_numpy() for array in (events.value_lengths(), rows, before))
    if wrong := [length for length in lengths.tolist() if not 1 <= length <= manifest.window.length]:
        raise BundleError(HISTORIES, f"a history has {wrong[0]} events, not 1 to {manifest.window.length}")
    if len(rows_S) and not 0 <= rows_S.min() <= rows_S.max() < manifest.shape.items:
        raise BundleError(HISTORIES, f"has item rows {rows_S.min()} to {rows_S.max()} of {manifest.shape.items} items")
    if len(before_H) and before_H.min() < 0:
        raise BundleError(HISTORIES, f"has events_before {before_H.min()}")
