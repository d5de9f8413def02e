"""Reads every item in eight bits a number and gives those that can be among the best: searching them is exact.

Dimensions: B batch, D hidden, N items, R rows that remain.
"""

import numpy as np

from steersman_service.bundle.bundle import SCAN, Array, Bundle
from steersman_service.engine.backends.onnx import open_session
from steersman_service.engine.index.exact import Terms
from steersman_service.errors import BundleError

BLOCK = 256
"""Scores of which only the largest is looked at first: few blocks hold any of the best."""
LEAST = float(np.finfo(np.float32).min)


class Scan:
    """`scan.onnx` (proto/README.md): estimates of all scores, and by how much any of them may be wrong at most."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Raises BundleError for a graph that does not load."""
        self._session = open_session(bundle, SCAN, "cpu", threads)
        wanted = ({"query_BD"}, {"estimates_BN", "errors_B"})
        actual = tuple(
            {node.name for node in nodes} for nodes in (self._session.get_inputs(), self._session.get_outputs())
        )
        if actual != wanted:
            raise BundleError(SCAN, f"takes and gives {actual}, wanted {wanted}")
        # One array for all calls: a new one of this size costs as much as a tenth of the scan.
        self._estimates_BN = np.empty((1, len(bundle.items_ND)), np.float32)
        self._binding = self._session.io_binding()
        self._binding.bind_output(
            "estimates_BN", "cpu", 0, np.float32, self._estimates_BN.shape, self._estimates_BN.ctypes.data
        )
        self._binding.bind_output("errors_B", "cpu")

    def candidates(self, query_D: Array, terms: Terms, k: int) -> Array:
        """Rows of all items that can be among the k best eligible ones; at least k if as many are eligible. (R)"""
        scores_N, error = self.estimates(query_D)
        if terms.tilts_N is not None:
            scores_N += terms.tilts_N
        if terms.eligible_N is not None:
            np.copyto(scores_N, -np.inf, where=~terms.eligible_N)
        scores_N[terms.excluded_X] = -np.inf
        # The k best have estimates within two errors of the k-th best estimate.
        rows_R = _near_the_best(scores_N, k, 2 * error)
        if len(rows_R) > k:
            scores_R = scores_N[rows_R]
            rows_R = rows_R[scores_R >= np.partition(scores_R, -k)[-k] - 2 * error]
        return rows_R

    def estimates(self, query_D: Array) -> tuple[Array, float]:
        """query . item + bias of every item, and the largest possible error. The next call overwrites the array. (N)"""
        self._binding.bind_cpu_input("query_BD", query_D[None])
        self._session.run_with_iobinding(self._binding)
        _, errors_B = self._binding.get_outputs()
        return self._estimates_BN[0], float(errors_B.numpy()[0])


def _near_the_best(scores_N: Array, k: int, margin: float) -> Array:
    """Rows whose score is within `margin` of the k-th best, and seldom many more. (R)"""
    count = len(scores_N) // BLOCK
    if count < k:
        return np.flatnonzero(scores_N >= max(LEAST, np.partition(scores_N, -k)[-k] - margin))
    blocks = scores_N[: count * BLOCK].reshape(count, BLOCK)
    best_of_blocks = blocks.max(1)
    # In each of k blocks there is a score that is no less.
    bound = max(LEAST, np.partition(best_of_blocks, -k)[-k] - margin)
    promising = np.flatnonzero(best_of_blocks >= bound)
    block, place = np.nonzero(blocks[promising] >= bound)
    last = count * BLOCK + np.flatnonzero(scores_N[count * BLOCK :] >= bound)
    return np.concatenate([promising[block] * BLOCK + place, last])
