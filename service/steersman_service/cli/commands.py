"""The commands that ask a running server: recommend, features, items. They need the extra `client` alone."""

from typing import Annotated
from uuid import uuid4

import typer

from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.feature_service_pb2_grpc import FeatureServiceStub
from steersman.v1.item_service_pb2_grpc import ItemServiceStub
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman.v1.session_service_pb2 import Event
from steersman_service.cli.arguments import Known, read_controls, read_tilts, read_where
from steersman_service.cli.client import DEFAULT_ADDRESS, connected
from steersman_service.cli.comparison import print_comparison
from steersman_service.cli.display import (
    print_concepts,
    print_features,
    print_items,
    print_message,
    print_recommendations,
    tell_history,
)
from steersman_service.cli.listing import list_concepts, list_features, list_items
from steersman_service.cli.printing import fail
from steersman_service.cli.typed_items import read_items

Address = Annotated[str, typer.Option(help="Where the server listens: host:port, or a host.")]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Timeout = Annotated[float, typer.Option(help="Longest wait for the answer, in seconds.")]
NAMES = "A name that holds commas: alone in an option of its own, or in double quotes."


def recommend(
    history: Annotated[
        list[str] | None,
        typer.Option(help=f"Item ids or titles, oldest first: 50,181,172, or Alien. Repeatable. {NAMES}"),
    ] = None,
    session: Annotated[str, typer.Option(help="Session id, instead of a history.")] = "",
    new: Annotated[
        list[str] | None, typer.Option(help="Item ids or titles that the session is to remember from now on.")
    ] = None,
    control: Annotated[
        list[str] | None,
        typer.Option(
            help="genres:Horror=0.8, f123:add=0.5, f123:scale=2, f123:ablate. Repeatable. A concept that is called like a "
            "feature: in double quotes, '\"f12\"=0.8'."
        ),
    ] = None,
    tilt: Annotated[
        list[str] | None,
        typer.Option(
            help="By an attribute of the items, in nats: genres:Horror=0.8, or year=-0.5 for a numeric one. The longest known "
            "name of an attribute is taken; another one: in double quotes."
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Items wanted.")] = 10,
    where: Annotated[
        list[str] | None, typer.Option(help="Only items with genres=Horror; repeat for more. Names as with --tilt.")
    ] = None,
    allow: Annotated[list[str] | None, typer.Option(help="Only these items, as with --history.")] = None,
    deny: Annotated[list[str] | None, typer.Option(help="None of these items, as with --history.")] = None,
    include_seen: Annotated[bool, typer.Option(help="Let items of the history come back.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show the list without --control and --tilt beside the one with them.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = 10.0,
    as_json: Json = False,
) -> None:
    """Ask a running server for items, and steer: --history 50,181 --control genres:Horror=0.8"""
    if compare and not (control or tilt):
        fail("--compare: there is nothing to compare; give --control or --tilt, too", 2)
    if history is not None and session:
        fail("--history: is ambiguous beside --session; give one of them")
    with connected(address) as channel:
        known = Known(channel, address, timeout)
        request = pb.RecommendRequest(
            session_id=session,
            controls=[*read_controls(control or [], known), *read_tilts(tilt or [], known)],
            k=k,
            filters=pb.Filters(
                include_seen=include_seen,
                allow_item_ids=read_items("--allow", allow or [], known),
                deny_item_ids=read_items("--deny", deny or [], known),
                attributes=read_where(where or [], known),
            ),
            new_events=[Event(event_id=uuid4().hex, item_id=item) for item in read_items("--new", new or [], known)],
        )
        if history is not None:
            request.history.item_ids.extend(read_items("--history", history, known))
        stub = RecommendationServiceStub(channel)
        response = stub.Recommend(request, timeout=timeout)
        # The session has the new events by now.
        request.ClearField("controls")
        request.ClearField("new_events")
        plain = stub.Recommend(request, timeout=timeout) if compare else None
    tell_history(response, request)
    if plain:
        print_comparison(plain, response, as_json)
    elif as_json:
        print_message(response)
    else:
        print_recommendations(response, known)


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
        known = Known(channel, address, timeout)
        stub = FeatureServiceStub(channel)
        if concepts:
            listed = list_concepts(stub, timeout, text=text)
            print_message(listed) if as_json else print_concepts(listed, known)
            return
        page = list_features(stub, limit, timeout, text=text, steerable_only=steerable)
    print_message(page) if as_json else print_features(page, known)


def items(
    text: Annotated[list[str] | None, typer.Argument(help="Words of a title, or an id. [default: all items]")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Items shown at most.")] = 20,
    address: Address = DEFAULT_ADDRESS,
    timeout: Timeout = 10.0,
    as_json: Json = False,
) -> None:
    """Find items of a running server by words of their titles: steersman items star wars"""
    wanted = " ".join(text or [])
    with connected(address) as channel:
        page = list_items(ItemServiceStub(channel), limit, timeout, text=wanted)
    print_message(page) if as_json else print_items(page, Known(channel, address, timeout), wanted)
