"""What the client commands print: the answer on standard output, warnings and the next command on standard error."""

from collections.abc import Sequence

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from steersman.v1 import feature_service_pb2 as features_pb
from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.control_pb2 import AppliedControl, Control, FeatureEdit
from steersman.v1.item_service_pb2 import ItemAttribute, ListItemsResponse
from steersman_service.cli.client import Client
from steersman_service.cli.printing import print_json, print_table, remark, say, warn

MAX_EDITS = 5
EFFECT = "share of its kind in the top 10, without → at strength 1"
TITLES = "items at which it is most active"
KINDS = {features_pb.FEATURE_KIND_DISCOVERED: "discovered", features_pb.FEATURE_KIND_ANCHORED: "anchored"}


def print_message(message: Message) -> None:
    """As JSON."""
    print_json(MessageToJson(message, preserving_proto_field_name=True, ensure_ascii=False))


def warn_of_history(response: pb.RecommendResponse, request: pb.RecommendRequest) -> None:
    """Warnings of what the answer could not use, and of items that are missing."""
    use = response.history_use
    if request.session_id and use.unknown_events:
        warn(f"{use.unknown_events} events of the session were skipped: the server's bundle does not have their items.")
    if response.degradations:
        warn("Degraded: the session could not be read.")
    if use.empty:
        warn("No event was used: this is the answer for a new user.")
    if len(response.items) < (request.k or len(response.items)):
        warn(f"Filters and history leave {response.eligible_items} items.")


def print_recommendations(response: pb.RecommendResponse, client: Client) -> None:
    rows = [(str(n), item.item_id, item.title, f"{item.score:.3f}") for n, item in enumerate(response.items, 1)]
    print_table(("", "item", "title", "score"), rows, foldable=("title",))
    for applied in response.applied_controls:
        say(applied_control(applied))
    for note in response.composition_notes:
        warn(note)
    if response.applied_controls:
        remark("Next: add --compare to see the list without these controls beside it.")
    else:
        remark(f"Next: steer it with --control NAME=0.8; the names: {client.command('features --concepts')}")


def applied_control(applied: AppliedControl) -> str:
    """A control and its edits, on one line."""
    control = applied.control
    if control.HasField("attribute"):
        target = ":".join(filter(None, (control.attribute.name, control.attribute.value)))
        return f"tilt {target} = {control.strength:g}"
    target = _target(control)
    edits = ", ".join(map(_edit, applied.edits[:MAX_EDITS])) or "nothing to change"
    more = f" and {len(applied.edits) - MAX_EDITS} more" if len(applied.edits) > MAX_EDITS else ""
    warnings = "".join(f"; warning: {warning}" for warning in applied.warnings)
    return f"{target} = {control.strength:g}: {edits}{more}{_beyond(applied.edits)}{warnings}"


def _target(control: Control) -> str:
    if control.HasField("items"):
        shown, count = ", ".join(control.items.item_ids[:MAX_EDITS]), len(control.items.item_ids)
        return f"like {shown}{f' and {count - MAX_EDITS} more' if count > MAX_EDITS else ''}"
    return control.concept or control.words or f"feature {control.feature.id}"


def _edit(edit: FeatureEdit) -> str:
    gain = f" ×{edit.gain:g}" if edit.gain != 1 else ""
    strength = f" {round(edit.strength, 2):+g}" if edit.strength else ""
    return f"{edit.label} (f{edit.feature_id}){gain}{strength}"


def _beyond(edits: Sequence[FeatureEdit]) -> str:
    """Which edits go beyond the natural range of their features; the largest, where there are many."""
    beyond = [f"f{edit.feature_id}" for edit in edits if edit.beyond_natural]
    if len(edits) == 1 and beyond:
        return "; beyond its natural range"
    more = f" and {len(beyond) - MAX_EDITS} more" if len(beyond) > MAX_EDITS else ""
    return f"; beyond their natural range: {', '.join(beyond[:MAX_EDITS])}{more}" if beyond else ""


def print_features(page: features_pb.ListFeaturesResponse, client: Client, *, rare: bool) -> None:
    """`rare`: rare ones were asked for, too."""
    rows = [
        (
            f"f{one.id}",
            KINDS.get(one.kind, ""),
            one.label if one.clear or one.HasField("correction") else "no clear meaning",
            "yes" if one.steerable else "no",
            _effect(one),
            "; ".join(one.top_item_titles[:2]),
        )
        for one in page.features
    ]
    print_table(("feature", "kind", "label", "steers as labelled", EFFECT, TITLES), rows, foldable=("label", TITLES))
    say(f"{len(page.features)} of {page.total_size} features of bundle {page.bundle_version[:12]}")
    if not rare:
        remark("Rare features (active at less than 0.5% of events) are left out: --all lists them, too.")
    _suggest_control(client, f"f{page.features[0].id}:add=0.8" if page.features else "", "features")


def print_concepts(listed: features_pb.ListConceptsResponse, client: Client) -> None:
    rows = []
    for concept in listed.concepts:
        kept = f"{concept.effect.ndcg_kept:.2f}" if concept.HasField("effect") else ""
        needs = f"needs {concept.strength:.1f} times its natural maximum" if concept.beyond_natural else ""
        rows.append((concept.name, concept.display_name, str(len(concept.terms)), _effect(concept), kept, needs))
    columns = (
        "concept",
        "for people",
        "features it moves",
        EFFECT,
        "accuracy kept (NDCG@10)",
        "beyond the natural range",
    )
    print_table(columns, rows)
    _suggest_control(client, f"{listed.concepts[0].name}=0.8" if listed.concepts else "", "features --concepts")


def _suggest_control(client: Client, control: str, listing: str) -> None:
    if control:
        remark(f"Next: {client.command('recommend --history IDS', '--control', control)}")
    else:
        remark(f"Next: list all: {client.command(listing)}")


def print_items(page: ListItemsResponse, client: Client, text: str) -> None:
    rows = [(item.item_id, item.title, "; ".join(map(_attribute, item.attributes))) for item in page.items]
    print_table(("item", "title", "attributes"), rows, foldable=("title", "attributes"))
    say(f"{len(page.items)} of {page.total_size} items {f'that match {text!r}' if text else 'of the bundle'}")
    if page.items:
        remark(f"Next: {client.command('recommend', '--history', page.items[0].item_id)}")
    else:
        remark("Next: try fewer words, or parts of them.")


def _attribute(attribute: ItemAttribute) -> str:
    number = f"{attribute.number:.10g}" if attribute.HasField("number") else ""
    return f"{attribute.name}: {number or ', '.join(attribute.values)}"


def _effect(steered: features_pb.Feature | features_pb.Concept) -> str:
    effect = steered.effect
    return f"{effect.share_before:.2f} → {effect.share_after:.2f}" if steered.HasField("effect") else ""
