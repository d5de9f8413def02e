"""Groups of histories of about the same length: padding is computed like events, and so is what every call costs."""

import numpy as np

from steersman_service.bundle.bundle import Array

# What a call of `lower` costs beside its positions, in positions: below this much padding, another call does not pay. On one
# thread it was 19 at D=64 (`make bench-engine` prints it); it is less the wider the recommender is, as its positions cost more.
CALL_POSITIONS = 16
# The same of a call of `append`, in kept positions, which are only read: at D=128 it was about a thousand.
APPEND_CALL_POSITIONS = 1024


# What a core of today's servers has of cache to itself. What one step of a graph writes beyond it is not there for the next step.
CORE_CACHE_BYTES = 1 << 20
# The widest step of a block, the first one of SwiGLU, reads a number for each dimension of the recommender and writes 16/3.
WIDEST_STEP = 1 + 16 / 3


def cached_positions(hidden: int, threads: int) -> int:
    """Positions of a call that stay in the caches of as many cores, whatever the step, where the recommender has `hidden` dimensions."""
    return int(threads * CORE_CACHE_BYTES / (WIDEST_STEP * hidden * np.dtype(np.float32).itemsize))


def length_groups(
    lengths_B: Array, call_positions: float = CALL_POSITIONS, most_positions: float = float("inf")
) -> list[Array]:
    """Rows of `lengths_B` in groups, longest first, such that padding and calls cost least in all.

    No group of more than one row has more than `most_positions`, padding included. Sorted by length, the best groups of the first n rows
    are the best ones of fewer rows, and one more group.
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
    """All rows together, as a GPU likes them best."""
    return [np.arange(len(lengths_B))]


def bounded_groups(widths_B: Array, most: int) -> list[Array]:
    """Rows of `widths_B` in groups of as many as fit: each row as wide as the widest of its group, `most` in all, or one row alone.

    In their order if all fit, or else the widest first.
    """
    if len(widths_B) * widths_B.max() <= most:
        return one_group(widths_B)
    order = np.argsort(-widths_B, kind="stable")
    groups, begin = [], 0
    while begin < len(order):
        end = begin + max(1, most // max(1, int(widths_B[order[begin]])))
        groups.append(order[begin:end])
        begin = end
    return groups
