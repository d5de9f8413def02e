"""Goals: what a control should reach in place of a strength. Checked and resolved with the control; `goal_search.py` finds the strength."""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control, ItemSet, ShareGoal
from steersman_service.bundle.catalogue import NATURAL_RANGE, Catalogue
from steersman_service.bundle.items import Items
from steersman_service.checks import check_item_ids, did_you_mean
from steersman_service.errors import FieldViolation
from steersman_service.steering.shares import (
    Subject,
    attribute_subject,
    concept_subject,
    set_subject,
    subject_of,
)

NATURAL_NATS = 8.0
"""Most of a tilt, where a goal leaves it to the server: odds times 2981."""
MAX_GOALS = 4
"""Of one request: each adds its lists to the search."""
MAX_SET_ITEMS = 1000
SAY_WHAT = "say what is counted: an attribute value, a concept or items; this control is about none of them"

GoalKind = Literal["at_least", "at_most", "least_overlap", "most_divergence"]


class ParsedGoal(NamedTuple):
    """A checked goal."""

    kind: GoalKind
    value: float
    """A share, or nats."""
    bound: float
    """The strongest that may be applied, with the sign of the direction."""
    subject: Subject | None
    """What is counted; None for a budget."""

    @property
    def is_budget(self) -> bool:
        """A budget asks for the strongest edit within it, a share for the weakest that reaches it."""
        return self.subject is None


def parse_goal(control: Control, catalogue: Catalogue, items: Items, max_strength: float) -> ParsedGoal:
    """The goal of a checked control."""
    kind = control.goal.WhichOneof("goal")
    if kind == "share":
        share = control.goal.share
        bound = share.WhichOneof("bound")
        up = bound == "at_least"
        subject = _counted(share, control, catalogue, items)
        assert bound is not None
        assert subject is not None
        return ParsedGoal(bound, getattr(share, bound), _bound(control, up, catalogue, max_strength), subject)
    assert kind is not None
    return ParsedGoal(kind, getattr(control.goal, kind), _bound(control, True, catalogue, max_strength), None)


def _bound(control: Control, up: bool, catalogue: Catalogue, max_strength: float) -> float:
    """The strength with which what is steered is as strong as its natural range, unless the control says another one."""
    if control.strength:
        return control.strength
    sign, most = (1 if up else -1), NATURAL_NATS if control.HasField("attribute") else NATURAL_RANGE
    if control.HasField("concept"):
        most = catalogue.concept_units[catalogue.concept_rows[control.concept]].needed(sign * most) * sign
    elif control.HasField("feature") and control.feature.id < len(catalogue.feature_units):
        most = catalogue.feature_units[control.feature.id].needed(sign * most) * sign
    return min(most, max_strength) * sign


def check_goal(control: Control, catalogue: Catalogue, items: Items) -> Iterator[FieldViolation]:
    """What is wrong with the goal of `control`. Fields from the control's own path on: ".goal.share"."""
    if control.operation != OPERATION_ADD:
        yield FieldViolation(".goal", "goes only with ADD: SET, SCALE and ABLATE say how strong they are")
    goal = control.goal
    kind = goal.WhichOneof("goal")
    if kind is None:
        yield FieldViolation(".goal", "is empty: give share, least_overlap or most_divergence")
    elif kind == "share":
        yield from _check_share(control, catalogue, items)
    elif kind == "least_overlap":
        yield from _check_part(".goal.least_overlap", goal.least_overlap)
    elif not 0 <= goal.most_divergence < math.inf:  # nor is NaN
        yield FieldViolation(".goal.most_divergence", f"{goal.most_divergence:g} is not a finite number of nats from 0")


def _check_share(control: Control, catalogue: Catalogue, items: Items) -> Iterator[FieldViolation]:
    share = control.goal.share
    bound, of = share.WhichOneof("bound"), share.WhichOneof("of")
    if bound is None:
        yield FieldViolation(".goal.share", "has no bound: give at_least or at_most")
    else:
        yield from _check_part(f".goal.share.{bound}", getattr(share, bound))
    if of == "attribute":
        yield from _check_attribute(share.attribute, items)
    elif of == "concept":
        yield from _check_concept(share.concept, catalogue, items)
    elif of == "items":
        yield from _check_items(share.items, items)
    elif _known_target(control, catalogue, items) and not _says_what(control, catalogue, items):
        yield FieldViolation(".goal.share", SAY_WHAT)


def _check_part(field: str, value: float) -> Iterator[FieldViolation]:
    if not 0 <= value <= 1:  # nor is NaN
        yield FieldViolation(field, f"{value:g} is not between 0 and 1")


def _check_attribute(attribute: AttributeRef, items: Items) -> Iterator[FieldViolation]:
    column = items.attributes.get(attribute.name)
    if column is None:
        yield FieldViolation(".goal.share.attribute.name", items.unknown_attribute(attribute.name))
    elif attribute_subject(attribute, items) is None:
        why = column.why_no_tilt(attribute.value) or "is a number, which no item has or lacks: name one with values"
        yield FieldViolation(".goal.share.attribute.value", why)


def _check_concept(name: str, catalogue: Catalogue, items: Items) -> Iterator[FieldViolation]:
    if name not in catalogue.concept_rows:
        hint = did_you_mean(name, catalogue.concept_rows, "ListConcepts gives their names")
        yield FieldViolation(".goal.share.concept", f"unknown concept {name[:100]!r}; {hint}")
    elif concept_subject(name, catalogue, items) is None:
        yield FieldViolation(".goal.share.concept", f"{name[:100]!r} is of a number, which no item has or lacks")


def _check_items(item_set: ItemSet, items: Items) -> Iterator[FieldViolation]:
    if (count := len(item_set.item_ids)) > MAX_SET_ITEMS:
        yield FieldViolation(".goal.share.items.item_ids", f"{count} items; at most {MAX_SET_ITEMS}")
    elif too_long := list(check_item_ids(".goal.share.items.item_ids", item_set.item_ids)):
        yield from too_long
    elif set_subject(item_set, items) is None:
        yield FieldViolation(".goal.share.items.item_ids", "this bundle knows none of them; at least one is needed")


def _known_target(control: Control, catalogue: Catalogue, items: Items) -> bool:
    """Whether the target itself is without fault: otherwise that is what is said."""
    target = control.WhichOneof("target")
    if target == "concept":
        return control.concept in catalogue.concept_rows
    if target == "attribute":
        column = items.attributes.get(control.attribute.name)
        return column is not None and not column.why_no_tilt(control.attribute.value)
    return target is not None


def _says_what(control: Control, catalogue: Catalogue, items: Items) -> bool:
    # A feature is about more than the value that it is most like: what is meant has to be said.
    return not control.HasField("feature") and subject_of(control, catalogue, items) is not None


def _counted(share: ShareGoal, control: Control, catalogue: Catalogue, items: Items) -> Subject | None:
    of = share.WhichOneof("of")
    if of == "attribute":
        return attribute_subject(share.attribute, items)
    if of == "concept":
        return concept_subject(share.concept, catalogue, items)
    if of == "items":
        return set_subject(share.items, items)
    return subject_of(control, catalogue, items)
