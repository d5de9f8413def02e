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
LEVELS = 127  # a rounded number is one of 2 * 127 + 1
MOST_BLOCK = 128  # numbers that share a step, at most
ROUNDING = 1e-5  # error of arithmetic in float32, relative to the largest possible score
PROBED_RECALL, FOUND_RECALL = 0.996, 0.993  # of the lists, and of the whole search; 0.99 is promised
DEPTHS = (20, 200, 600, 2000, 10_000)  # a filter that leaves a tenth makes the best 20 as deep as 200
CODED = 2  # numbers that share a code of four bits
DEEP_QUERIES = 64  # of a kind, at all depths but the first: each of them has so many items to be found
LISTS_PER_ROOT = 4.096  # lists for each square root of the items: 4,096 of a million
POINTS_PER_LIST = 24  # items from which each list is learnt
CANDIDATES = (2, 5, 10, 20, 30, 40, 60, 100)  # items scored for each that is wanted, since codes are coarse


class ItemVectors(NamedTuple):
    """The vectors that are indexed."""

    items_ND: Array
    biases_N: Array


def write_scan(items: ItemVectors, folder: Path) -> None:
    """Writes `scan.onnx` and `scan.data`: from a query, an estimate of every score, and a bound of the estimates' error.

    Items are rounded to x' and the query to q', in blocks whose largest number is 127 steps. Since
    q.x - q'.x' = q'.(x - x') + (q - q').x, no estimate is further from its score than |q'| max|x - x'| + |q - q'| max|x|.
    """
    size, hidden = items.items_ND.shape
    block = min(MOST_BLOCK, max(16, 1 << (hidden - 1).bit_length()))
    blocks = -(-hidden // block)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        _scan_nodes(size, blocks, block),
        "scan",
        [value("query_BD", TensorProto.FLOAT, ["B", hidden])],
        [value("estimates_BN", TensorProto.FLOAT, ["B", size]), value("errors_B", TensorProto.FLOAT, ["B"])],
        [numpy_helper.from_array(tensor, name) for name, tensor in _scan_tensors(items, blocks, block).items()],
    )
    set_external_data(graph.initializer[0], SCAN_DATA)  # a message of protobuf holds 2 GB at most
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), folder / SCAN)
    # onnx makes this file readable by its owner only; a server may run as another user.
    (folder / SCAN_DATA).chmod((folder / SCAN).stat().st_mode)


def _scan_tensors(items: ItemVectors, blocks: int, block: int) -> dict[str, npt.NDArray[Any]]:
    """The weights of the scan, the codes of the items first."""
    size, hidden = items.items_ND.shape
    rounded = _rounded(items.items_ND, block, blocks)
    longest = np.sqrt(np.square(items.items_ND, dtype=np.float64).sum(1).max())
    tiny = np.finfo(np.float32).tiny
    numbers = {
        "levels": LEVELS,
        "least_step": tiny,
        "missed": rounded.missed + ROUNDING * longest,
        "longest": longest,
        "arithmetic": ROUNDING * (np.abs(items.biases_N).max() + tiny),
    }
    return {
        "codes": rounded.codes.reshape(size, blocks, block),
        "steps": rounded.steps.reshape(-1),
        "biases_N": items.biases_N,
        **{name: np.array(value, np.float32) for name, value in numbers.items()},
        "in_blocks": np.array([-1, blocks, block]),
        "in_one": np.array([-1, blocks * block]),
        "padding": np.array([0, 0, 0, blocks * block - hidden]),
        "last": np.array([-1]),
    }


def _scan_nodes(size: int, blocks: int, block: int) -> list[onnx.NodeProto]:
    def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs.split(), [output], **attributes)

    return [
        node("Pad", "query_BD padding", "query_BP"),
        node("Reshape", "query_BP in_blocks", "blocks"),
        node("Abs", "blocks", "sizes"),
        node("ReduceMax", "sizes last", "largest", keepdims=1),
        node("Div", "largest levels", "step_or_0"),
        node("Max", "step_or_0 least_step", "step"),
        node("Div", "blocks step", "in_steps"),
        node("Round", "in_steps", "whole"),
        node("Mul", "whole step", "rounded_blocks"),
        node("Reshape", "rounded_blocks in_one", "rounded_BP"),
        helper.make_node(
            "MatMulNBits", ["rounded_BP", "codes", "steps", "", "", "biases_N"], ["estimates_BN"], domain="com.microsoft",
            K=blocks * block, N=size, bits=8, block_size=block, accuracy_level=4,
        ),
        node("ReduceL2", "rounded_BP last", "length_B", keepdims=0),
        node("Sub", "query_BP rounded_BP", "difference_BP"),
        node("ReduceL2", "difference_BP last", "distance_B", keepdims=0),
        node("Mul", "length_B missed", "of_items_B"),
        node("Mul", "distance_B longest", "of_query_B"),
        node("Sum", "of_items_B of_query_B arithmetic", "errors_B"),
    ]  # fmt: skip


class _Rounded(NamedTuple):
    codes: npt.NDArray[np.uint8]
    steps: Array
    missed: float  # largest distance of an item from itself, rounded


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


def write_lists(items: ItemVectors, queries: Mapping[str, Array], folder: Path, seed: int = 0) -> bundle_pb2.Index:
    """Writes `index.faiss`, and measures how many of its lists must be searched.

    `queries` are held-out ones by kind ("plain"), (Q, D): for each depth, the worst kind decides.
    """
    points_NP = _extended(items.items_ND, items.biases_N)
    lists = max(1, round(LISTS_PER_ROOT * len(points_NP) ** 0.5))
    _build(points_NP, min(lists, len(points_NP)), folder / LISTS, seed)
    index: Any = faiss.read_index(str(folder / LISTS))  # measures what was written
    return bundle_pb2.Index(lists=index.nlist, efforts=_efforts(index, items, queries))


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
    points = {"max_points_per_centroid": POINTS_PER_LIST, "min_points_per_centroid": 1}
    means = faiss.Kmeans(size, lists, niter=8, seed=seed, **points)
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


def _efforts(index: Any, items: ItemVectors, queries: Mapping[str, Array]) -> list[bundle_pb2.Effort]:
    """For each depth the fewest lists, and then the fewest candidates, that find enough for every kind of query."""
    lists_N = _lists_of_items(index)
    extended = {kind: _extended(query_QD, 1.0) for kind, query_QD in queries.items()}
    order = {kind: index.quantizer.search(points, index.nlist)[1] for kind, points in extended.items()}
    best = {kind: _best(query_QD, items, DEPTHS[-1]) for kind, query_QD in queries.items()}
    efforts = []
    for depth in (depth for depth in DEPTHS if depth == DEPTHS[0] or 2 * depth <= len(lists_N)):
        most = None if depth == DEPTHS[0] else DEEP_QUERIES
        asked = {kind: query_QD[:most] for kind, query_QD in queries.items()}
        wanted = {kind: rows_QK[:most, :depth] for kind, rows_QK in best.items()}
        probes = max(_probes(lists_N[wanted[kind]], order[kind][:most]) for kind in queries)
        for count in CANDIDATES:
            recall = _recall(index, items, asked, wanted, probes, count)
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
    index: Any, items: ItemVectors, queries: Mapping[str, Array], wanted: Mapping[str, Rows], probes: int, count: int
) -> dict[str, float]:
    """Share of the wanted items that are among the best of the candidates for their query, by kind."""
    parameters = faiss.SearchParametersIVF()
    parameters.nprobe = probes
    recall = {}
    for kind, query_QD in queries.items():
        depth = wanted[kind].shape[1]
        most = min(count * depth, len(items.items_ND))
        found = index.search(_extended(query_QD, 1.0), most, params=parameters)[1]
        hits = 0
        for query_D, wanted_K, rows in zip(query_QD, wanted[kind], found, strict=True):
            rows = rows[rows >= 0]
            scores = items.items_ND[rows] @ query_D + items.biases_N[rows]
            hits += np.isin(wanted_K, rows[np.lexsort((rows, -scores))[:depth]]).sum()
        recall[kind] = float(hits / wanted[kind].size)
    return recall


def _best(query_QD: Array, items: ItemVectors, depth: int) -> Rows:
    """The best items of all by the whole table, best first, as many as there are. (Q, K)"""
    depth = min(depth, len(items.items_ND))
    best = []
    for query_D in query_QD:
        scores_N = items.items_ND @ query_D + items.biases_N
        rows_K = np.argpartition(scores_N, -depth)[-depth:]
        best.append(rows_K[np.lexsort((rows_K, -scores_N[rows_K]))])
    return np.stack(best)
