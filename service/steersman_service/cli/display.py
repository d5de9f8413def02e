"""What `recommend`, `features` and `items` print: the answer on standard output, what to know and to do next on standard error."""

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from steersman.v1 import feature_service_pb2 as features_pb
from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.control_pb2 import AppliedControl
from steersman.v1.item_service_pb2 import ItemAttribute, ListItemsResponse
from steersman_service.cli.arguments import Known
from steersman_service.cli.printing import Column, print_json, print_table, remark, say, warn

EFFECT = "share of its kind in the top 10, without → at strength 1"


def print_message(message: Message) -> None:
    """As JSON."""
    print_json(MessageToJson(message, preserving_proto_field_name=True, ensure_ascii=False))


def tell_history(response: pb.RecommendResponse, request: pb.RecommendRequest) -> None:
    """What the answer does not rest on, though it may seem so."""
    use = response.history_use
    if request.session_id and use.unknown_events:
        warn(
            f"{use.unknown_events} events of the session are of items unknown to the server's bundle: they were skipped."
        )
    if response.degradations:
        warn("Degraded: the session could not be read.")
    if use.empty:
        warn("No event was used: this is the answer for a new user.")
    if len(response.items) < (request.k or len(response.items)):
        warn(f"Filters and history leave {response.eligible_items} items.")


def print_recommendations(response: pb.RecommendResponse, known: Known) -> None:
    columns = [Column("", key=True), Column("item", key=True), Column("title"), Column("score", key=True)]
    rows = [(str(n), item.item_id, item.title, f"{item.score:.3f}") for n, item in enumerate(response.items, 1)]
    print_table(columns, rows)
    for applied in response.applied_controls:
        say(applied_control(applied))
    if response.applied_controls:
        remark("Next: the same with --compare shows the list without these controls beside it.")
    else:
        remark(f"Next: steer it with --control NAME=0.8; the names: {known.command('features --concepts')}")


def applied_control(applied: AppliedControl) -> str:
    """What a control came down to, on one line."""
    control = applied.control
    if control.HasField("attribute"):
        target = ":".join(filter(None, (control.attribute.name, control.attribute.value)))
        return f"tilt {target} = {control.strength:g}"
    target = control.concept or f"feature {control.feature.id}"
    edits = ", ".join(f"{edit.label} (f{edit.feature_id}) {edit.strength:+.2f}" for edit in applied.edits[:5])
    more = f" and {len(applied.edits) - 5} more" if len(applied.edits) > 5 else ""
    return f"{target} = {control.strength:g}: {edits}{more}"


def print_features(page: features_pb.ListFeaturesResponse, known: Known) -> None:
    columns = [
        Column("feature", key=True),
        Column("label"),
        Column("steers as labelled", key=True),
        Column(EFFECT, key=True),
        Column("items at which it is most active"),
    ]
    rows = []
    for feature in page.features:
        steers = "yes" if feature.steerable else "no"
        rows.append((f"f{feature.id}", feature.label, steers, _effect(feature), "; ".join(feature.top_item_titles[:2])))
    print_table(columns, rows)
    say(f"{len(page.features)} of {page.total_size} features of bundle {page.bundle_version[:12]}")
    if page.features:
        remark(f"Next: {known.command('recommend --history IDS', '--control', f'f{page.features[0].id}:add=0.8')}")
    else:
        remark(f"Next: all of them: {known.command('features')}")


def print_concepts(listed: features_pb.ListConceptsResponse, known: Known) -> None:
    columns = [
        Column("concept", key=True),
        Column("features it moves", key=True),
        Column(EFFECT, key=True),
        Column("accuracy kept (NDCG@10)", key=True),
    ]
    rows = []
    for concept in listed.concepts:
        kept = f"{concept.effect.ndcg_kept:.2f}" if concept.HasField("effect") else ""
        rows.append((concept.name, str(len(concept.terms)), _effect(concept), kept))
    print_table(columns, rows)
    if listed.concepts:
        remark(f"Next: {known.command('recommend --history IDS', '--control', f'{listed.concepts[0].name}=0.8')}")
    else:
        remark(f"Next: all of them: {known.command('features --concepts')}")


def print_items(page: ListItemsResponse, known: Known, text: str) -> None:
    rows = [(item.item_id, item.title, "; ".join(map(_attribute, item.attributes))) for item in page.items]
    print_table([Column("item", key=True), Column("title"), Column("attributes")], rows)
    found = f"that {text!r} names" if text else "of the bundle"
    say(f"{len(page.items)} of {page.total_size} items {found}")
    if page.items:
        remark(f"Next: {known.command('recommend', '--history', page.items[0].item_id)}")
    else:
        remark("Next: fewer words, or parts of them.")


def _attribute(attribute: ItemAttribute) -> str:
    number = f"{attribute.number:.10g}" if attribute.HasField("number") else ""
    return f"{attribute.name}: {number or ', '.join(attribute.values)}"


def _effect(steered: features_pb.Feature | features_pb.Concept) -> str:
    effect = steered.effect
    return f"{effect.share_before:.2f} → {effect.share_after:.2f}" if steered.HasField("effect") else ""
