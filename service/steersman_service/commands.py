"""The commands that ask a running server: recommend, features. They need the extra `client` alone."""

from typing import Annotated
from uuid import uuid4

import typer
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table

from steersman.v1 import feature_service_pb2 as features_pb
from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.control_pb2 import AppliedControl
from steersman.v1.feature_service_pb2_grpc import FeatureServiceStub
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman.v1.session_service_pb2 import Event
from steersman_service.client import connected, read_controls, read_tilts, read_where, split_ids
from steersman_service.listing import list_concepts, list_features

Address = Annotated[str, typer.Option(help="Where the server listens.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Timeout = Annotated[float, typer.Option(help="Longest wait for the answer, in seconds.")]
DEFAULT_ADDRESS = "127.0.0.1:50051"


def recommend(
    history: Annotated[list[str] | None, typer.Option(help="Item ids, oldest first: 50,181,172")] = None,
    session: Annotated[str, typer.Option(help="Session id, instead of a history.")] = "",
    new: Annotated[list[str] | None, typer.Option(help="Item ids that the session is to remember from now on.")] = None,
    control: Annotated[
        list[str] | None, typer.Option(help="genres:Horror=0.8, f123:add=0.5, f123:scale=2, f123:ablate")
    ] = None,
    tilt: Annotated[
        list[str] | None,
        typer.Option(help="By an attribute of the items, in nats: genres:Horror=0.8, or year=-0.5 for a numeric one."),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Items wanted.")] = 10,
    where: Annotated[list[str] | None, typer.Option(help="Only items with genres=Horror; repeat for more.")] = None,
    allow: Annotated[list[str] | None, typer.Option(help="Only these item ids.")] = None,
    deny: Annotated[list[str] | None, typer.Option(help="None of these item ids.")] = None,
    include_seen: Annotated[bool, typer.Option(help="Let items of the history come back.")] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = 10.0,
    as_json: Json = False,
) -> None:
    """Ask a running server for items, and steer: --history 50,181 --control genres:Horror=0.8"""
    with connected(address) as channel:
        request = pb.RecommendRequest(
            session_id=session,
            controls=[*read_controls(control or [], channel), *read_tilts(tilt or [])],
            k=k,
            filters=pb.Filters(
                include_seen=include_seen,
                allow_item_ids=split_ids(allow or []),
                deny_item_ids=split_ids(deny or []),
                attributes=read_where(where or []),
            ),
            new_events=[Event(event_id=uuid4().hex, item_id=item_id) for item_id in split_ids(new or [])],
        )
        if history is not None:
            request.history.item_ids.extend(split_ids(history))
        response = RecommendationServiceStub(channel).Recommend(request, timeout=timeout)
    _print_json(response) if as_json else _print_recommendations(response)


def features(
    text: Annotated[str, typer.Option(help="Only those whose label, attribute or titles contain this.")] = "",
    steerable: Annotated[bool, typer.Option("--steerable", help="Only features that steer as labelled.")] = False,
    concepts: Annotated[bool, typer.Option("--concepts", help="List concepts instead.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Features shown at most.")] = 50,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = 10.0,
    as_json: Json = False,
) -> None:
    """List what a running server can be steered by."""
    with connected(address) as channel:
        stub = FeatureServiceStub(channel)
        if concepts:
            listed = list_concepts(stub, timeout, text=text)
            _print_json(listed) if as_json else _print_concepts(listed)
            return
        page = list_features(stub, limit, timeout, text=text, steerable_only=steerable)
    _print_json(page) if as_json else _print_features(page)


def _print_json(message: Message) -> None:
    typer.echo(MessageToJson(message, preserving_proto_field_name=True, ensure_ascii=False))


def _print_recommendations(response: pb.RecommendResponse) -> None:
    table = Table("", "item", "title", "score")
    for rank, item in enumerate(response.items, 1):
        table.add_row(str(rank), item.item_id, item.title, f"{item.score:.3f}")
    console = Console()
    console.print(table)
    for applied in response.applied_controls:
        console.print(_applied(applied), markup=False)
    if response.history_use.unknown_events:
        console.print(f"{response.history_use.unknown_events} unknown items of the history were skipped.")
    if response.degradations:
        console.print("Degraded: the session could not be read.", style="yellow")


def _applied(applied: AppliedControl) -> str:
    control = applied.control
    if control.HasField("attribute"):
        target = ":".join(filter(None, (control.attribute.name, control.attribute.value)))
        return f"tilt {target} = {control.strength:g}"
    target = control.concept or f"feature {control.feature.id}"
    edits = ", ".join(f"{edit.label} (f{edit.feature_id}) {edit.strength:+.2f}" for edit in applied.edits[:5])
    more = f" and {len(applied.edits) - 5} more" if len(applied.edits) > 5 else ""
    return f"{target} = {control.strength:g}: {edits}{more}"


def _print_features(page: features_pb.ListFeaturesResponse) -> None:
    table = Table("feature", "label", "steers", "share at 0 → 1", "top items")
    for feature in page.features:
        steers = "yes" if feature.steerable else "no"
        table.add_row(f"f{feature.id}", feature.label, steers, _effect(feature), "; ".join(feature.top_item_titles[:2]))
    console = Console()
    console.print(table)
    console.print(f"{len(page.features)} of {page.total_size} features of bundle {page.bundle_version[:12]}")


def _print_concepts(listed: features_pb.ListConceptsResponse) -> None:
    table = Table("concept", "features", "share at 0 → 1", "NDCG kept")
    for concept in listed.concepts:
        kept = f"{concept.effect.ndcg_kept:.2f}" if concept.HasField("effect") else ""
        table.add_row(concept.name, str(len(concept.terms)), _effect(concept), kept)
    Console().print(table)


def _effect(steered: features_pb.Feature | features_pb.Concept) -> str:
    effect = steered.effect
    return f"{effect.share_before:.2f} → {effect.share_after:.2f}" if steered.HasField("effect") else ""
