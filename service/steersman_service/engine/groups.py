"""Cuts a batch into groups that are computed together. Padding costs as much as events do, and so does every call.

Dimensions: B batch.
"""

import numpy as np

from steersman_service.bundle.bundle import Array

# What a call of `lower` costs beside its positions, in positions: with less padding than this, another call does not pay. On one
# thread it was 19 at D=64 (`make bench-engine` prints it); the wider the recommender, the less it is.
CALL_POSITIONS = 16
# The same of `append`, in kept positions, which are only read: about a thousand at D=128.
APPEND_CALL_POSITIONS = 1024
# Cache of one core of today's servers. What a step of a graph writes beyond it, the next step reads from memory.
CORE_CACHE_BYTES = 1 << 20
# The widest step of a block, the first one of SwiGLU, reads one number for each dimension of the recommender and writes 16/3.
WIDEST_STEP = 1 + 16 / 3


def cached_positions(hidden: int, threads: int) -> int:
    """Positions of a call of `lower` that stay in the caches of `threads` cores, for a recommender of `hidden` dimensions."""
    return int(threads * CORE_CACHE_BYTES / (WIDEST_STEP * hidden * np.dtype(np.float32).itemsize))


def length_groups(
    lengths_B: Array, call_positions: float = CALL_POSITIONS, most_positions: float = float("inf")
) -> list[Array]:
    """The cheapest groups by positions and calls, longest first: rows of `lengths_B`.

    No group of several rows has more than `most_positions`, padding included. Dynamic programming over the rows in order of length:
    the best groups of the first n rows are the best ones of fewer rows and one more group.
    """
    if len(lengths_B) == 1:
        return one_group(lengths_B)
    order = np.argsort(-lengths_B, kind="stable")
    lengths = lengths_B[order].tolist()
    costs, begins, first = [0.0], [0], 0
    for end in range(1, len(lengths) + 1):
        # A group of rows that are further apart would be better off without its shortest one.
        while first < end - 1 and (
            lengths[first] - lengths[end - 1] > call_positions or (end - first) * lengths[first] > most_positions
        ):
            first += 1
        cost, begin = min((costs[begin] + (end - begin) * lengths[begin], begin) for begin in range(first, end))
        costs.append(cost + call_positions)
        begins.append(begin)
    cuts = []
    end = len(lengths)
    while end := begins[end]:
        cuts.append(end)
    return np.split(order, cuts[::-1])


def one_group(lengths_B: Array) -> list[Array]:
    """All rows together, which is best on a GPU."""
    return [np.arange(len(lengths_B))]


def bounded_groups(widths_B: Array, most: int) -> list[Array]:
    """Rows of `widths_B` in groups of at most `most` in all, padding included, or of one row. Rows of width 0 are left out.

    In the order of the rows if all fit, or else the widest first.
    """
    rows = np.flatnonzero(widths_B)
    if len(rows) == 0 or len(rows) * widths_B.max() <= most:
        return [rows] if len(rows) else []
    order = rows[np.argsort(-widths_B[rows], kind="stable")]
    groups, begin = [], 0
    while begin < len(order):
        end = begin + max(1, most // int(widths_B[order[begin]]))
        groups.append(order[begin:end])
        begin = end
    return groups
