"""Goals as typed on the command line, and receipts as printed."""

import re

from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.control_pb2 import OPERATION_ADD, AppliedControl, Control, Goal, ShareGoal
from steersman_service.cli.arguments import read_tilt
from steersman_service.cli.client import Client
from steersman_service.cli.printing import fail, say, warn

GOAL = re.compile(
    r"(?P<name>.+?)(?P<budget>:overlap(?=>=)|:divergence(?=<=))?(?P<sign>>=|<=)(?P<value>[^<>=@]+)(@(?P<strength>[^<>=@]+))?",
    re.DOTALL,
)
HINT = (
    "write genres:Horror>=0.4 or genres:Horror<=0.1 for a share of the list, genres:Horror:overlap>=0.7 or genres:Horror:divergence<=0.1"
    " for a budget; @-2 behind it bounds the strength"
)
MOST_EFFECTS = 5


def read_goal(text: str, client: Client) -> Control:
    """`genres:Horror>=0.4`, `genres:Horror:overlap>=0.7@-2`: a concept where the bundle has one of that name, or else a tilt."""
    typed = GOAL.fullmatch(text)
    if typed is None:
        fail(f"--goal: {text!r} is no goal; {HINT}", 2)
    value, strength = _number(text, typed["value"]), _number(text, typed["strength"] or "0")
    control = named_control(typed["name"], client)
    control.strength = strength
    if typed["budget"] == ":overlap":
        control.goal.CopyFrom(Goal(least_overlap=value))
    elif typed["budget"]:
        control.goal.CopyFrom(Goal(most_divergence=value))
    else:
        share = ShareGoal(at_least=value) if typed["sign"] == ">=" else ShareGoal(at_most=value)
        control.goal.CopyFrom(Goal(share=share))
    return control


def named_control(name: str, client: Client, strength: float = 0.0) -> Control:
    """On a concept, where the bundle has one of that name, or else on an attribute."""
    if client.has_concept(name):
        return Control(concept=name, operation=OPERATION_ADD, strength=strength)
    return read_tilt(f"{name}={strength}", client)


def print_receipt(response: pb.RecommendResponse) -> None:
    """What steering did, a line for each control; nothing without a receipt."""
    if not response.HasField("receipt"):
        return
    receipt = response.receipt
    for applied, told in zip(response.applied_controls, receipt.controls, strict=True):
        if told.HasField("share_after"):
            say(f"{_name(applied)}: share {told.share_before:.2f} → {told.share_after:.2f}")
        if told.note:
            warn(f"{_name(applied)}: {told.note}")
    kept = f", NDCG@10 kept about {receipt.ndcg_kept_estimate:.2f}" if receipt.HasField("ndcg_kept_estimate") else ""
    say(
        f"beside the list without controls: overlap {receipt.overlap:.2f}, divergence {receipt.divergence:.3f} nats{kept}"
    )
    effects = [
        f"{effect.value} {effect.share_before:.2f} → {effect.share_after:.2f}"
        for effect in receipt.side_effects[:MOST_EFFECTS]
    ]
    if effects:
        say(f"moved, too: {'; '.join(effects)}")


def _name(applied: AppliedControl) -> str:
    control = applied.control
    attribute = ":".join(filter(None, (control.attribute.name, control.attribute.value)))
    return control.concept or attribute or f"feature {control.feature.id}"


def _number(text: str, number: str) -> float:
    try:
        return float(number)
    except ValueError:
        fail(f"--goal: {number!r} in {text!r} is no number; {HINT}", 2)
