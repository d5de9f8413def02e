"""The index of a large catalogue: a scan in eight bits that misses nothing, and lists that are quick, and measured.

Dimensions: B batch, D hidden, P hidden and bias, padded, L lists, N items, Q queries, K items of a query.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from steersman.v1 import bundle_pb2

Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

SCAN, SCAN_DATA, LISTS = "scan.onnx", "scan.data", "index.faiss"
OPSET = 20
LEVELS = 127
"""A rounded number is one of 2 * 127 + 1."""
MOST_BLOCK = 128
"""Numbers that share a step, at most."""
ROUNDING = 1e-5
"""What arithmetic in float32 may add to errors, relative to the largest score that there can be."""
PROBED_RECALL, FOUND_RECALL = 0.996, 0.993
"""Of the lists alone, and of all that is done: 0.99 is promised, and other queries than those that were measured will come."""
DEPTHS = (20, 200, 600, 2000, 10_000)
"""How deep the lists are measured. The best 20 of the tenth that a filter leaves lie about as deep as the best 200 of all."""
CODED = 2
"""Numbers that share a code of four bits."""
DEEP_QUERIES = 64
"""Of a kind, at all depths but the first: each of them has so many items to be found."""
LISTS_PER_ROOT = 4.096
"""Lists for each square root of the items: 4,096 of a million. More would take longer to choose from than they save."""
POINTS_PER_LIST = 24
"""Items that each list is learnt from."""
CANDIDATES = (2, 5, 10, 20, 30, 40, 60, 100)
"""Codes are coarse: so many items for each that is wanted may have to be scored."""


class Catalogue(NamedTuple):
    """What is indexed."""

    items_ND: Array
    biases_N: Array


def write_scan(catalogue: Catalogue, folder: Path) -> None:
    """Writes `scan.onnx` and `scan.data`: from a query, an estimate of every score, and by how much any may be wrong at most.

    Items are rounded to x' and the query to q', in blocks whose largest number is 127 steps. Since
    q.x - q'.x' = q'.(x - x') + (q - q').x, no estimate is further from its score than |q'| max|x - x'| + |q - q'| max|x|.
    """
    size, hidden = catalogue.items_ND.shape
    block = min(MOST_BLOCK, max(16, 1 << (hidden - 1).bit_length()))
    blocks = -(-hidden // block)
    rounded = _rounded(catalogue.items_ND, block, blocks)
    longest = np.sqrt(np.square(catalogue.items_ND, dtype=np.float64).sum(1).max())
    largest_bias = np.abs(catalogue.biases_N).max()
    numbers = {
        "levels": LEVELS,
        "least_step": np.finfo(np.float32).tiny,
        "missed": rounded.missed + ROUNDING * longest,
        "longest": longest,
        "arithmetic": ROUNDING * (largest_bias + np.finfo(np.float32).tiny),
    }
    tensors: dict[str, npt.NDArray[Any]] = {
        "codes": rounded.codes.reshape(size, blocks, block),
        "steps": rounded.steps.reshape(-1),
        "biases_N": catalogue.biases_N,
        **{name: np.array(value, np.float32) for name, value in numbers.items()},
        "in_blocks": np.array([-1, blocks, block]),
        "in_one": np.array([-1, blocks * block]),
        "padding": np.array([0, 0, 0, blocks * block - hidden]),
        "last": np.array([-1]),
    }
    nodes = [
        _node("Pad", "query_BD padding", "query_BP"),
        _node("Reshape", "query_BP in_blocks", "blocks"),
        _node("Abs", "blocks", "sizes"),
        _node("ReduceMax", "sizes last", "largest", keepdims=1),
        _node("Div", "largest levels", "step_or_0"),
        _node("Max", "step_or_0 least_step", "step"),
        _node("Div", "blocks step", "in_steps"),
        _node("Round", "in_steps", "whole"),
        _node("Mul", "whole step", "rounded_blocks"),
        _node("Reshape", "rounded_blocks in_one", "rounded_BP"),
        helper.make_node(
            "MatMulNBits", ["rounded_BP", "codes", "steps", "", "", "biases_N"], ["estimates_BN"], domain="com.microsoft",
            K=blocks * block, N=size, bits=8, block_size=block, accuracy_level=4,
        ),
        _node("ReduceL2", "rounded_BP last", "length_B", keepdims=0),
        _node("Sub", "query_BP rounded_BP", "difference_BP"),
        _node("ReduceL2", "difference_BP last", "distance_B", keepdims=0),
        _node("Mul", "length_B missed", "of_items_B"),
        _node("Mul", "distance_B longest", "of_query_B"),
        _node("Sum", "of_items_B of_query_B arithmetic", "errors_B"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "scan",
        [helper.make_tensor_value_info("query_BD", TensorProto.FLOAT, ["B", hidden])],
        [
            helper.make_tensor_value_info("estimates_BN", TensorProto.FLOAT, ["B", size]),
            helper.make_tensor_value_info("errors_B", TensorProto.FLOAT, ["B"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    # A message of protobuf holds 2 GB at most.
    set_external_data(graph.initializer[0], SCAN_DATA)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, folder / SCAN)
    # onnx lets nobody else read such a file; a server may be another user.
    (folder / SCAN_DATA).chmod((folder / SCAN).stat().st_mode)


class _Rounded(NamedTuple):
    codes: npt.NDArray[np.uint8]
    steps: Array
    missed: float
    """Of the item that is furthest from itself, rounded: how far."""


def _rounded(items_ND: Array, block: int, blocks: int, rows: int = 65_536) -> _Rounded:
    """Items in eight bits, a part at a time."""
    parts, missed = [], 0.0
    for start in range(0, len(items_ND), rows):
        part = items_ND[start : start + rows]
        padded = np.zeros((len(part), blocks * block), np.float32)
        padded[:, : part.shape[1]] = part
        in_blocks = padded.reshape(len(part), blocks, block)
        steps = np.maximum(np.abs(in_blocks).max(2, keepdims=True) / np.float32(LEVELS), np.finfo(np.float32).tiny)
        whole = np.rint(in_blocks / steps)
        missed = max(missed, float(np.square(in_blocks - whole * steps, dtype=np.float64).sum((1, 2)).max()))
        parts.append(((whole + (LEVELS + 1)).astype(np.uint8), steps.astype(np.float32)))
    codes, steps_of = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return _Rounded(codes, steps_of, float(np.sqrt(missed)))


def _node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def write_lists(catalogue: Catalogue, queries: Mapping[str, Array], folder: Path, seed: int = 0) -> bundle_pb2.Index:
    """Writes `index.faiss`, and says how many of its lists have to be looked at.

    `queries` are held-out ones by kind ("plain"), (Q, D): for each depth, the worst kind decides.
    """
    points_NP = _extended(catalogue.items_ND, catalogue.biases_N)
    lists = max(1, round(LISTS_PER_ROOT * len(points_NP) ** 0.5))
    _build(points_NP, min(lists, len(points_NP)), folder / LISTS, seed)
    # What is measured is what was written.
    index: Any = faiss.read_index(str(folder / LISTS))
    return bundle_pb2.Index(lists=index.nlist, efforts=_efforts(index, catalogue, queries))


def _extended(vectors: Array, last: Array | float) -> Array:
    """With the bias as one more dimension, and zeros up to whole codes. The last number of a query is 1."""
    rows, hidden = vectors.shape
    extended = np.zeros((rows, -(-(hidden + 1) // CODED) * CODED), np.float32)
    extended[:, :hidden] = vectors
    extended[:, hidden] = last
    return extended


def _build(points_NP: Array, lists: int, path: Path, seed: int) -> None:
    """Items go to the list whose centre is closest; queries look where the product with the centre is largest."""
    rng, size = np.random.default_rng(seed), points_NP.shape[1]
    learners = points_NP[np.sort(rng.permutation(len(points_NP))[: POINTS_PER_LIST * lists])]
    means = faiss.Kmeans(
        size, lists, niter=8, seed=seed, max_points_per_centroid=POINTS_PER_LIST, min_points_per_centroid=1
    )
    means.train(learners)
    closest, largest = faiss.IndexFlatL2(size), faiss.IndexFlatIP(size)
    for quantizer in (closest, largest):
        quantizer.add(means.centroids)  # type: ignore[arg-type]  # there are some, after the training
    index = faiss.IndexIVFPQFastScan(closest, size, lists, size // CODED, 4, faiss.METRIC_INNER_PRODUCT)
    index.by_residual = True
    index.pq.cp.min_points_per_centroid = 1
    index.train(learners)
    index.add(points_NP)
    index.quantizer = largest
    faiss.write_index(index, str(path))


def _efforts(index: Any, catalogue: Catalogue, queries: Mapping[str, Array]) -> list[bundle_pb2.Effort]:
    """For each depth the fewest lists, and then the fewest candidates, that find enough for every kind of query."""
    lists_N = _lists_of_items(index)
    order = {
        kind: index.quantizer.search(_extended(query_QD, 1.0), index.nlist)[1] for kind, query_QD in queries.items()
    }
    best = {kind: _best(query_QD, catalogue, DEPTHS[-1]) for kind, query_QD in queries.items()}
    efforts = []
    for depth in (depth for depth in DEPTHS if depth == DEPTHS[0] or 2 * depth <= len(lists_N)):
        most = None if depth == DEPTHS[0] else DEEP_QUERIES
        asked = {kind: query_QD[:most] for kind, query_QD in queries.items()}
        wanted = {kind: rows_QK[:most, :depth] for kind, rows_QK in best.items()}
        probes = max(_probes(lists_N[wanted[kind]], order[kind][:most]) for kind in queries)
        for count in CANDIDATES:
            recall = _recall(index, catalogue, asked, wanted, probes, count)
            if min(recall.values()) >= FOUND_RECALL:
                break
        efforts.append(bundle_pb2.Effort(depth=depth, probes=probes, candidates_per_item=count, recall=recall))
    return efforts


def _lists_of_items(index: Any) -> Rows:
    """The list of each item. (N)"""
    lists_N = np.empty(index.ntotal, np.int64)
    for place in range(index.nlist):
        size = index.invlists.list_size(place)
        lists_N[faiss.rev_swig_ptr(index.invlists.get_ids(place), size)] = place
    return lists_N


def _probes(wanted_QK: Rows, order_QL: Rows) -> int:
    """Lists to look at, in their order, so that most of the wanted ones are among them."""
    places_QL = np.argsort(order_QL, axis=1)
    places = np.sort(np.take_along_axis(places_QL, wanted_QK, axis=1), axis=None)
    return int(places[math.ceil(PROBED_RECALL * len(places)) - 1]) + 1


def _recall(
    index: Any,
    catalogue: Catalogue,
    queries: Mapping[str, Array],
    wanted: Mapping[str, Rows],
    probes: int,
    count: int,
) -> dict[str, float]:
    """Share of the wanted items that are among the best of the candidates for their query, by kind."""
    parameters = faiss.SearchParametersIVF()
    parameters.nprobe = probes
    recall = {}
    for kind, query_QD in queries.items():
        depth = wanted[kind].shape[1]
        most = min(count * depth, len(catalogue.items_ND))
        found = index.search(_extended(query_QD, 1.0), most, params=parameters)[1]
        hits = 0
        for query_D, wanted_K, rows in zip(query_QD, wanted[kind], found, strict=True):
            rows = rows[rows >= 0]
            scores = catalogue.items_ND[rows] @ query_D + catalogue.biases_N[rows]
            hits += np.isin(wanted_K, rows[np.lexsort((rows, -scores))[:depth]]).sum()
        recall[kind] = float(hits / wanted[kind].size)
    return recall


def _best(query_QD: Array, catalogue: Catalogue, depth: int) -> Rows:
    """The best items of all by the whole table, best first, as many as there are. (Q, K)"""
    depth = min(depth, len(catalogue.items_ND))
    best = []
    for query_D in query_QD:
        scores_N = catalogue.items_ND @ query_D + catalogue.biases_N
        rows_K = np.argpartition(scores_N, -depth)[-depth:]
        best.append(rows_K[np.lexsort((rows_K, -scores_N[rows_K]))])
    return np.stack(best)
