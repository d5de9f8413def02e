"""Composition: how a list is put together after scores are known. Checks it, joins a request's with a scenario's, resolves it to rows.

Dimensions: N items, M candidates, K top-k.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from steersman.v1.control_pb2 import AttributeRef
from steersman.v1.recommendation_service_pb2 import Composition, Filters, LeastShare, MostPerValue
from steersman_service.bundle.bundle import Array
from steersman_service.bundle.items import UNKNOWN, Categories, Items, Mask
from steersman_service.checks import check_item_ids
from steersman_service.engine.request import EngineRequest
from steersman_service.errors import ENOUGH_VIOLATIONS, FieldViolation
from steersman_service.steering.arrange import Arrangement, Cap, Share, arrange

# Candidates that are asked for: with diversity or caps so many for each item wanted, and at least so many; where caps need more, so many.
CANDIDATES_PER_ITEM, LEAST_CANDIDATES, MOST_CANDIDATES = 5, 50, 1000
# Conditions of each kind.
MAX_CONDITIONS = 32
MAX_PINNED = 1000
# What rounding of float32 shares may add up to, beside 1.
SHARE_ROUNDING = 1e-6


class LeastCount(NamedTuple):
    """At least `wanted` items out of a set."""

    label: str
    wanted: int
    member_N: Mask


class Plan(NamedTuple):
    """A checked composition, in rows of the bundle."""

    k: int
    diversity: float
    caps: tuple[tuple[str, int], ...]
    """Attribute, and most items for each of its values."""
    pinned: tuple[int, ...]
    """Rows that the request may return, in order."""
    least: tuple[LeastCount, ...]
    notes: tuple[str, ...]
    """On pinned items that cannot be in the list."""

    @property
    def candidates(self) -> int:
        """How many of the best items to begin with."""
        if not (self.diversity or self.caps):
            return self.k
        return max(self.k, min(MOST_CANDIDATES, max(LEAST_CANDIDATES, CANDIDATES_PER_ITEM * self.k)))


def check_composition(
    composition: Composition, filters: Filters, items: Items, max_items: int, path: str = "composition"
) -> list[FieldViolation]:
    """What is wrong with `composition`, beside `filters` of the same message. `max_items` bounds its ids in all."""
    ids = len(composition.pinned_item_ids) + sum(len(share.items.item_ids) for share in composition.least_shares)
    if ids > max_items:
        return [FieldViolation(path, f"{ids} item ids; at most {max_items}")]
    if (pinned := len(composition.pinned_item_ids)) > MAX_PINNED:
        return [FieldViolation(f"{path}.pinned_item_ids", f"{pinned} items; at most {MAX_PINNED}")]
    for name in ("most_per_value", "least_shares"):
        if (count := len(getattr(composition, name))) > MAX_CONDITIONS:
            return [FieldViolation(f"{path}.{name}", f"{count} conditions; at most {MAX_CONDITIONS}")]
    checks = chain(
        check_item_ids(f"{path}.pinned_item_ids", composition.pinned_item_ids),
        _check_diversity(f"{path}.diversity", composition.diversity),
        _check_most(f"{path}.most_per_value", composition.most_per_value, items),
        _check_pinned(f"{path}.pinned_item_ids", composition.pinned_item_ids, filters),
        _check_shares(f"{path}.least_shares", composition.least_shares, items),
    )
    return list(islice(checks, ENOUGH_VIOLATIONS))


def _check_diversity(path: str, diversity: float) -> Iterator[FieldViolation]:
    if not 0 <= diversity <= 1:  # nor is NaN
        yield FieldViolation(path, f"{diversity:g} is not between 0 (scores alone) and 1 (variety alone)")


def _check_most(path: str, conditions: Iterable[MostPerValue], items: Items) -> Iterator[FieldViolation]:
    first: dict[str, int] = {}
    for index, condition in enumerate(conditions):
        yield from _check_categorical(f"{path}[{index}].attribute", condition.attribute, items)
        if condition.most < 1:
            yield FieldViolation(f"{path}[{index}].most", "must be at least 1; filters leave items with a value out")
        if (other := first.setdefault(condition.attribute, index)) != index:
            why = f"a second condition on {condition.attribute[:50]!r}, beside {path}[{other}]"
            yield FieldViolation(f"{path}[{index}].attribute", why)


def _check_pinned(path: str, item_ids: Iterable[str], filters: Filters) -> Iterator[FieldViolation]:
    denied, allowed = frozenset(filters.deny_item_ids), frozenset(filters.allow_item_ids)
    first: dict[str, int] = {}
    for index, item_id in enumerate(item_ids):
        here = f"{path}[{index}]"
        if not item_id:
            yield FieldViolation(here, "is empty")
        elif (other := first.setdefault(item_id, index)) != index:
            yield FieldViolation(here, f"is pinned twice, beside {path}[{other}]")
        elif item_id in denied:
            yield FieldViolation(here, "is in deny_item_ids, too: leave it out of one of them")
        elif allowed and item_id not in allowed:
            yield FieldViolation(here, "is not in allow_item_ids: add it there, or leave it out here")


def _check_shares(path: str, shares: Iterable[LeastShare], items: Items) -> Iterator[FieldViolation]:
    total = 0.0
    for index, share in enumerate(shares):
        here, kind = f"{path}[{index}]", share.WhichOneof("of")
        if kind == "attribute":
            yield from _check_attribute(f"{here}.attribute", share.attribute, items)
        elif kind is None:
            yield FieldViolation(here, "names neither an attribute nor items")
        elif too_long := list(check_item_ids(f"{here}.items.item_ids", share.items.item_ids)):
            yield from too_long
        elif not len(items.rows(share.items.item_ids)):
            yield FieldViolation(f"{here}.items.item_ids", "at least one item that the bundle knows is needed")
        if not 0 <= share.share <= 1:
            yield FieldViolation(f"{here}.share", f"{share.share:g} is not between 0 and 1")
        else:
            total += share.share
    if total > 1 + SHARE_ROUNDING:
        yield FieldViolation(path, f"are {total:g} of the list together; at most 1")


def _check_attribute(path: str, attribute: AttributeRef, items: Items) -> Iterator[FieldViolation]:
    wrong = list(_check_categorical(f"{path}.name", attribute.name, items))
    yield from wrong
    if not wrong and (why := items.attributes[attribute.name].why_no_tilt(attribute.value)):
        yield FieldViolation(f"{path}.value", why)


def _check_categorical(path: str, name: str, items: Items) -> Iterator[FieldViolation]:
    column = items.attributes.get(name)
    if column is None:
        yield FieldViolation(path, items.unknown_attribute(name))
    elif not isinstance(column, Categories):
        yield FieldViolation(path, f"{name!r} is numeric: only an attribute whose values are texts has values to count")


def joined(scenario: Composition, request: Composition) -> Composition:
    """`scenario`, with the fields that `request` sets in their place."""
    both = Composition(diversity=request.diversity or scenario.diversity)
    for name in ("most_per_value", "pinned_item_ids", "least_shares"):
        getattr(both, name).extend(getattr(request, name) or getattr(scenario, name))
    return both


def asks_for_anything(composition: Composition) -> bool:
    return bool(
        composition.diversity or composition.most_per_value or composition.pinned_item_ids or composition.least_shares
    )


def plan(composition: Composition, request: EngineRequest, items: Items) -> Plan:
    """Resolves a checked `composition` for the list of `request.k` items that `request` asks for."""
    places = items.places(composition.pinned_item_ids)
    may_be = [place != UNKNOWN and may_return(request, place) for place in places.tolist()]
    notes = [
        f"pinned item {item_id[:50]!r}: {'filtered, seen or disliked' if place != UNKNOWN else 'the bundle does not have it'}"
        for item_id, place, may in zip(composition.pinned_item_ids, places.tolist(), may_be, strict=True)
        if not may
    ]
    pinned = [place for place, may in zip(places.tolist(), may_be, strict=True) if may]
    if len(pinned) > request.k:
        notes.append(f"{len(pinned)} pinned items, and {request.k} wanted: the first ones are in the list")
    return Plan(
        request.k,
        composition.diversity,
        tuple((condition.attribute, condition.most) for condition in composition.most_per_value),
        tuple(pinned[: request.k]),
        tuple(_least(share, request.k, items) for share in composition.least_shares),
        tuple(notes),
    )


def _least(share: LeastShare, k: int, items: Items) -> LeastCount:
    if share.HasField("attribute"):
        name, value = share.attribute.name, share.attribute.value
        label, member_N = f"{name}:{value}", items.attributes[name].having([value], len(items))
    else:
        member_N = np.zeros(len(items), np.bool_)
        member_N[items.rows(share.items.item_ids)] = True
        label = f"{int(member_N.sum())} given items"
    # As float32 gives it, 0.3 of 10 would be a little more than 3.
    return LeastCount(label, min(k, math.ceil(share.share * k - k * SHARE_ROUNDING)), member_N)


def may_return(request: EngineRequest, row: int) -> bool:
    return (request.eligible_N is None or bool(request.eligible_N[row])) and row not in request.excluded_X


def arranged(planned: Plan, rows_M: Array, scores_M: Array, items: Items, items_ND: Array) -> Arrangement:
    """The list of `planned` from candidates, best first, that are among them."""
    place_of = {row: place for place, row in enumerate(rows_M.tolist())}
    caps = []
    for name, most in planned.caps:
        column = items.attributes[name]
        assert isinstance(column, Categories)
        caps.append(Cap(name, most, *column.among(rows_M)))
    return arrange(
        scores_M,
        planned.k,
        pinned=[place_of[row] for row in planned.pinned if row in place_of],
        caps=caps,
        shares=[Share(least.label, least.wanted, least.member_N[rows_M]) for least in planned.least],
        diversity=planned.diversity,
        vectors_MD=items_ND[rows_M] if planned.diversity else None,
    )
