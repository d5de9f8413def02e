"""What every peer runs: history and edits in, the twenty best items out. Needs numpy and ONNX Runtime, no more.

It does what Steersman does for the request: takes the window of the history, pads the batch to its longest, lower -> edit -> search, and
leaves out what was seen. The graphs are those of the bundle, made one: `plain.onnx`, and `steered.onnx` where a request of the batch has
edits (bench/peers/graphs.py writes both). One ONNX Runtime thread.

A request is packed as bytes, the same for every peer that takes bytes: two int32 (events, edits), the events' item rows as int32, and the
edits as float32: features, gains, strengths. The answer is 20 rows as int32 and 20 scores as float32.

Dimensions: B batch, T time, E edits, N items, K top-k.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort

Array = Any


class Request(NamedTuple):
    """What one caller asks."""

    history: Array
    """Item rows of all events, oldest first, int32."""
    edits_3E: Array
    """Features, gains and strengths, float32; E may be 0."""


def pack(request: Request) -> bytes:
    """As peers are sent it."""
    sizes = np.array([len(request.history), request.edits_3E.shape[1]], np.int32)
    return b"".join((sizes.tobytes(), request.history.tobytes(), request.edits_3E.tobytes()))


def unpack(packed: bytes) -> Request:
    """What `pack` packed."""
    events, edits = np.frombuffer(packed, np.int32, 2)
    history = np.frombuffer(packed, np.int32, events, offset=8)
    return Request(history, np.frombuffer(packed, np.float32, 3 * edits, offset=8 + 4 * events).reshape(3, edits))


def answer(rows_K: Array, scores_K: Array) -> bytes:
    """As peers answer."""
    return b"".join((rows_K.astype(np.int32).tobytes(), scores_K.astype(np.float32).tobytes()))


class Ranker:
    """Not thread-safe."""

    def __init__(self, folder: Path, alone: bool = False) -> None:
        """`alone`: requests of a batch are computed one after the other, without padding."""
        self._alone = alone
        facts = json.loads((folder / "facts.json").read_text())
        self.items, self.length, self._stride = facts["items"], facts["length"], facts["stride"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._plain, self._steered = (
            ort.InferenceSession(str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
            for name in ("plain", "steered")
        )
        for size in (1, 64):  # the first run in a shape is slow
            self.rank([Request(np.zeros(self.length, np.int32), np.ones((3, 1), np.float32))] * size)

    @classmethod
    def from_environment(cls) -> "Ranker":
        """That of the folder in BENCH_GRAPHS; BENCH_ALONE=1 for one request at a time."""
        return cls(Path(os.environ["BENCH_GRAPHS"]), os.environ.get("BENCH_ALONE") == "1")

    def answers(self, packed: Sequence[bytes]) -> list[bytes]:
        """From packed requests to packed answers."""
        rows_BK, scores_BK = self.rank([unpack(one) for one in packed])
        return [answer(rows_K, scores_K) for rows_K, scores_K in zip(rows_BK, scores_BK, strict=True)]

    def rank(self, requests: Sequence[Request]) -> tuple[Array, Array]:
        """Rows and scores of the best items of each request, (B, K) both."""
        if self._alone and len(requests) > 1:
            parts = [self.rank([request]) for request in requests]
            rows, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
            return rows, scores
        windows = [request.history[self._start(len(request.history)) :] for request in requests]
        lengths_B = np.array([len(window) for window in windows])
        ids_BT = np.zeros((len(requests), max(1, lengths_B.max())), np.int64)
        eligible_BN = np.ones((len(requests), self.items), np.bool_)
        for row, (window, request) in enumerate(zip(windows, requests, strict=True)):
            ids_BT[row, : len(window)] = window
            eligible_BN[row, request.history] = False
        feeds = {"ids_BT": ids_BT, "lengths_B": lengths_B, "eligible_BN": eligible_BN}
        most = max(request.edits_3E.shape[1] for request in requests)
        if not most:
            rows, scores = self._plain.run(["rows_BK", "scores_BK"], feeds)
            return rows, scores
        edits_3BE = np.zeros((3, len(requests), most), np.float32)
        edits_3BE[1] = 1
        for row, request in enumerate(requests):
            edits_3BE[:, row, : request.edits_3E.shape[1]] = request.edits_3E
        feeds |= {
            "features_BE": edits_3BE[0].astype(np.int64),
            "gains_BE": edits_3BE[1],
            "strengths_BE": edits_3BE[2],
        }
        rows, scores = self._steered.run(["rows_BK", "scores_BK"], feeds)
        return rows, scores

    def _start(self, events: int) -> int:
        """proto/README.md, "The window"."""
        return 0 if events <= self.length else -((self.length - events) // self._stride) * self._stride
