"""Receipts: what steering did to a list, beside the same request without any control."""

import math
from collections.abc import Iterator, Sequence

from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.control_pb2 import OPERATION_ADD
from steersman.v1.feature_service_pb2 import Concept, Feature
from steersman_service.bundle.catalogue import Catalogue
from steersman_service.bundle.items import Categories, Items, Rows
from steersman_service.steering.control import ParsedControl
from steersman_service.steering.goal_search import Solution, Trial, measured, shortfall
from steersman_service.steering.goals import ParsedGoal
from steersman_service.steering.shares import Subject, overlap, subject_of

LEAST_SIDE_EFFECT, MOST_SIDE_EFFECTS = 0.1, 10
# Shares are counts of items: what is below is rounding.
ROUNDING = 1e-6
UNITS = {"least_overlap": "of the plain list's items", "most_divergence": "nats"}


def receipt(
    asked: Sequence[ParsedControl], solution: Solution, divergence: float, catalogue: Catalogue, items: Items
) -> pb.Receipt:
    """`asked` are the controls with their goals; `divergence` is that of the best trial, in nats."""
    plain, best = solution
    applied = best.steering.controls
    subjects = [_subject(control, catalogue, items) for control in asked]
    filled = pb.Receipt(
        controls=map(_of_control, asked, applied, subjects, [plain] * len(asked), [best] * len(asked)),
        overlap=overlap(plain.rows_K, best.rows_K),
        divergence=divergence,
        side_effects=_side_effects(subjects, plain.rows_K, best.rows_K, items),
    )
    if (kept := ndcg_kept(applied, catalogue)) is not None:
        filled.ndcg_kept_estimate = kept
    return filled


def ndcg_kept(controls: Sequence[ParsedControl], catalogue: Catalogue) -> float | None:
    """An estimate, from what strength 1 of each control kept at training: kept ** |strength|, multiplied over controls.

    None: nothing was measured of any.
    """
    kept = [
        max(entry.effect.ndcg_kept, 0.0) ** abs(control.applied.control.strength)
        for control in controls
        if (entry := _measured_entry(control, catalogue)) is not None and entry.HasField("effect")
    ]
    return math.prod(kept) if kept else None


def _measured_entry(control: ParsedControl, catalogue: Catalogue) -> Feature | Concept | None:
    """The catalogue's entry of what a control adds to; None for other controls, and for one that was carried from another bundle."""
    if control.applied.control.operation != OPERATION_ADD or control.applied.carried_confidence:
        return None
    if control.target == "feature":
        return catalogue.features[control.row]
    return catalogue.concepts[control.row] if control.target == "concept" else None


def _subject(control: ParsedControl, catalogue: Catalogue, items: Items) -> Subject | None:
    if control.goal is not None and control.goal.subject is not None:
        return control.goal.subject
    if control.applied.carried_confidence:  # its id is of another bundle
        return None
    return subject_of(control.applied.control, catalogue, items)


def _of_control(
    asked: ParsedControl, applied: ParsedControl, subject: Subject | None, plain: Trial, best: Trial
) -> pb.ControlReceipt:
    strength = applied.applied.control.strength
    filled = pb.ControlReceipt(
        requested_strength=asked.applied.control.strength if asked.goal is None else asked.goal.bound,
        applied_strength=strength,
    )
    if subject is not None:
        filled.share_before, filled.share_after = subject.share(plain.rows_K), subject.share(best.rows_K)
    if asked.goal is not None:
        value = measured(asked.goal, best.rows_K, best.result.divergence, plain.rows_K)
        reached = shortfall(asked.goal, value) == 0
        filled.goal = pb.GOAL_STATUS_REACHED if reached else pb.GOAL_STATUS_NOT_REACHABLE
        filled.note = _note(asked.goal, value, strength, reached)
    return filled


def _note(goal: ParsedGoal, value: float, strength: float, reached: bool) -> str:
    if reached:
        return ""
    unit = UNITS.get(goal.kind, "of the list")
    return f"not reachable: best was {value:.3g} {unit} at strength {strength:.3g}; {goal.value:.3g} was asked for"


def _side_effects(subjects: Sequence[Subject | None], plain_K: Rows, rows_K: Rows, items: Items) -> list[pb.SideEffect]:
    """The largest first."""
    meant = {(subject.attribute, subject.value) for subject in subjects if subject is not None}
    moved = [
        effect
        for effect in _moved(plain_K, rows_K, items)
        if (effect.attribute, effect.value) not in meant
        and abs(effect.share_after - effect.share_before) >= LEAST_SIDE_EFFECT - ROUNDING
    ]
    moved.sort(key=lambda effect: (-abs(effect.share_after - effect.share_before), effect.attribute, effect.value))
    return moved[:MOST_SIDE_EFFECTS]


def _moved(plain_K: Rows, rows_K: Rows, items: Items) -> Iterator[pb.SideEffect]:
    """Every value that an item of either list has."""
    for name, column in items.attributes.items():
        if isinstance(column, Categories):
            before, after = column.shares(plain_K, rows_K)
            for value in before.keys() | after.keys():
                yield pb.SideEffect(
                    attribute=name,
                    value=value,
                    share_before=before.get(value, 0.0),
                    share_after=after.get(value, 0.0),
                )
