"""Which items may be returned: filters, applied before the top k is taken."""

from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from steersman.v1.recommendation_service_pb2 import AttributeFilter, Filters
from steersman_service.bundle.items import NOWHERE, Items, Mask, Rows
from steersman_service.checks import check_item_ids
from steersman_service.errors import ENOUGH_VIOLATIONS, FieldViolation

# Rows that are excluded one by one. Beyond it a mask is cheaper, as it always is for a catalogue as small as SMALL_MASK.
MOST_EXCLUDED = 512
SMALL_MASK = 32_768
# Conditions on attributes of one request.
MAX_FILTER_ATTRIBUTES = 32


class Eligibility(NamedTuple):
    """Filters, applied to the catalogue."""

    mask_N: Mask | None
    """Which items may be returned. None: all."""
    excluded_X: Rows
    """Rows that may not, whatever the mask says; each once, at most MOST_EXCLUDED."""
    eligible: int
    """Eligible items."""
    unknown_ids: int
    """Ids of the filters that the bundle does not know."""


def check_filters(filters: Filters, items: Items, limit: int, path: str = "filters") -> list[FieldViolation]:
    """What is wrong with `filters`, which errors name `path`. `limit` is the most ids and values in all."""
    # Each condition costs a look at every item.
    if (conditions := len(filters.attributes)) > MAX_FILTER_ATTRIBUTES:
        return [FieldViolation(f"{path}.attributes", f"{conditions} conditions; at most {MAX_FILTER_ATTRIBUTES}")]
    values = sum(len(attribute.any_of) for attribute in filters.attributes)
    given = len(filters.allow_item_ids) + len(filters.deny_item_ids) + values + len(filters.attributes)
    if given > limit:
        return [FieldViolation(path, f"{given} ids and values; at most {limit}")]
    checks = (_check_attribute(f"{path}.attributes[{i}]", f, items) for i, f in enumerate(filters.attributes))
    ids = (check_item_ids(f"{path}.{name}", getattr(filters, name)) for name in ("allow_item_ids", "deny_item_ids"))
    return list(islice(chain.from_iterable(chain(ids, checks)), ENOUGH_VIOLATIONS))


def _check_attribute(path: str, attribute: AttributeFilter, items: Items) -> Iterator[FieldViolation]:
    column = items.attributes.get(attribute.attribute)
    if column is None:
        yield FieldViolation(f"{path}.attribute", items.unknown_attribute(attribute.attribute))
    elif not attribute.any_of:
        yield FieldViolation(f"{path}.any_of", "at least one value is needed")
    elif wrong := column.why_no_filter(attribute.any_of):
        yield FieldViolation(f"{path}.any_of[{wrong[0]}]", wrong[1])


def eligibility(
    filters: Filters, seen: Rows, items: Items, *, refused: Rows = NOWHERE, beside: Filters | None = None
) -> Eligibility:
    """Applies checked `filters`, and those `beside` them: all conditions of both must hold; seen items may come again if either says so.

    `seen` are the rows of the whole history, not only of its window; `refused` ones are never returned. Without an allow list and
    conditions, nothing as large as a large catalogue is made.
    """
    excluded: list[Rows] = [refused]
    allowed: list[Rows] = []
    attributes: list[AttributeFilter] = []
    unknown, seen_too = 0, False
    for part in (filters,) if beside is None else (filters, beside):
        seen_too |= part.include_seen
        attributes += part.attributes
        for kept, item_ids in ((excluded, part.deny_item_ids), (allowed, part.allow_item_ids)):
            if item_ids:
                rows = items.rows(item_ids)
                unknown += len(item_ids) - len(rows)
                kept.append(rows)
    if not seen_too:
        excluded.append(seen)
    if not (allowed or attributes or len(items) <= SMALL_MASK):
        excluded_X = np.unique(np.concatenate(excluded))
        if len(excluded_X) <= MOST_EXCLUDED:
            return Eligibility(None, excluded_X, len(items) - len(excluded_X), unknown)
    mask_N = np.ones(len(items), np.bool_)
    for rows in allowed:
        listed_N = np.zeros(len(items), np.bool_)
        listed_N[rows] = True
        mask_N &= listed_N
    for attribute in attributes:
        mask_N &= items.attributes[attribute.attribute].having(attribute.any_of, len(items))
    for rows in excluded:
        mask_N[rows] = False
    return Eligibility(mask_N, NOWHERE, int(np.count_nonzero(mask_N)), unknown)
