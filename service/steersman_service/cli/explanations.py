"""What `steersman explain` prints: the taste, the list with what its scores are made of, accounts, and what would change it."""

from collections.abc import Sequence

from steersman.v1 import explanation_service_pb2 as pb
from steersman.v1.control_pb2 import AppliedControl, Control
from steersman_service.cli.client import Client
from steersman_service.cli.display import applied_control
from steersman_service.cli.printing import print_table, remark, say

TASTE = ("feature", "label", "activation", "share of the spread")
ACCOUNT = ("part", "adds")
CARRIED = "carried by"
# Of a feature.
MOST_EVENTS = 3


def print_explanation(response: pb.ExplainResponse, request: pb.ExplainRequest, client: Client) -> None:
    _print_taste(response.taste, with_events=request.event_influence)
    listed = response.accounts[: len(response.recommendation.items)]
    applied = response.recommendation.applied_controls
    _print_list(listed, with_controls=bool(applied))
    for one in applied:
        say(applied_control(one))
    for account in response.accounts[len(listed) :]:
        _print_account(account, applied)
    if response.HasField("change"):
        _print_change(response.change, request.change, client)
    if response.method == "path":
        remark(
            "Scores of this bundle are not linear in its features: parts are found along a path, and sum to the score all the same."
        )
    if listed and not (request.item_ids or request.HasField("change")):
        remark(f"Next: {client.command('explain --history IDS', '--why', listed[0].item_id)}")


def _print_taste(taste: pb.Taste, *, with_events: bool) -> None:
    say("What the model sees in this history, before any control:")
    titles = (*TASTE, CARRIED) if with_events else TASTE
    rows = [
        (
            f"f{one.feature_id}",
            one.label,
            f"{one.activation:.2f}",
            f"{one.spread_share:+.1%}",
            *([_events(one.events)] if with_events else ()),
        )
        for one in taste.features
    ]
    print_table(titles, rows, foldable=("label", CARRIED))
    say(f"of no feature: {taste.unexplained_share:.1%} of the spread of scores")


def _events(events: Sequence[pb.EventInfluence]) -> str:
    return "; ".join(f"{event.title or event.item_id} {event.activation_change:+.2f}" for event in events[:MOST_EVENTS])


def _print_list(accounts: Sequence[pb.Account], *, with_controls: bool) -> None:
    """What each score is made of, in one line."""
    titles = ["", "item", "title", "score", "features", "rest of the state", "bias"]
    titles += ["controls"] if with_controls else []
    rows = [
        (
            str(account.rank),
            account.item_id,
            account.title,
            f"{account.score:.3f}",
            f"{_of_features(account):+.3f}",
            f"{account.unexplained:+.3f}",
            f"{account.bias:+.3f}",
            *([f"{sum(account.controls):+.3f}"] if with_controls else ()),
            _most(account),
        )
        for account in accounts
    ]
    print_table([*titles, "most of all"], rows, foldable=("title", "most of all"))


def _of_features(account: pb.Account) -> float:
    return sum(one.amount for one in account.features) + account.other_features


def _most(account: pb.Account) -> str:
    return next((f"{one.label} (f{one.feature_id}) {one.amount:+.2f}" for one in account.features), "")


def _print_account(account: pb.Account, applied: Sequence[AppliedControl]) -> None:
    where = f"place {account.rank}" if account.rank else "not in the list"
    say(f"{account.title} ({account.item_id}), {where}:")
    rows = [(f"{one.label} (f{one.feature_id})", one.amount) for one in account.features]
    rows += [("other features", account.other_features), ("rest of the state", account.unexplained)]
    rows += [("bias of the item", account.bias)]
    rows += [(_name(one.control), amount) for one, amount in zip(applied, account.controls, strict=True)]
    rows += [("score", account.score)]
    print_table(ACCOUNT, [(part, f"{amount:+.3f}") for part, amount in rows], foldable=("part",))


def _print_change(change: pb.Change, query: pb.ChangeQuery, client: Client) -> None:
    wanted = f"take {query.item_id} off the list" if change.was_in_list else f"bring {query.item_id} into the list"
    if change.status != pb.CHANGE_STATUS_FOUND:
        say(
            f"Nothing that was tried would {wanted}: strengths up to 2, or 20 events; filters and the history count, too."
        )
        return
    if change.event_places:
        say(f"Without these events, found one by one, {query.item_id} would not be in the list:")
        titles = [
            f"{item_id} (place {place})"
            for place, item_id in zip(change.event_places, change.event_item_ids, strict=True)
        ]
        say("; ".join(titles))
    else:
        label = f" ({client.label(change.control.feature.id)})" if change.control.HasField("feature") else ""
        say(f"{_name(change.control)}{label} = {change.control.strength:.2f} would {wanted}.")
    say(f"The list would keep {change.overlap:.0%} of its items:")
    rows = [(str(n), item.item_id, item.title, f"{item.score:.3f}") for n, item in enumerate(change.items, 1)]
    print_table(("", "item", "title", "score"), rows, foldable=("title",))


def _name(control: Control) -> str:
    if control.HasField("attribute"):
        return f"tilt {':'.join(filter(None, (control.attribute.name, control.attribute.value)))}"
    return control.concept or f"f{control.feature.id}"
