"""The command `explain`: why a running server's list is as it is, and what would change it. It needs only the extra `client`."""

from typing import Annotated

import typer

from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.explanation_service_pb2 import ChangeQuery, ExplainRequest
from steersman_service.cli.arguments import read_control, read_tilt, read_where
from steersman_service.cli.client import Client, connected
from steersman_service.cli.commands import Allow, Controls, Deny, History, Json, Tilts, Where
from steersman_service.cli.display import print_message, warn_of_history
from steersman_service.cli.explanations import print_explanation
from steersman_service.cli.printing import fail
from steersman_service.cli.server import HERE, Server, asks_server
from steersman_service.cli.typed_items import read_items

ANY, EVENTS = "any", "events"


@asks_server(timeout=30.0)
def explain(
    history: History = None,
    session: Annotated[str, typer.Option(help="Session id, instead of a history.")] = "",
    control: Controls = None,
    tilt: Tilts = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Items wanted.")] = 10,
    where: Where = None,
    allow: Allow = None,
    deny: Deny = None,
    include_seen: Annotated[bool, typer.Option(help="Do not exclude items of the history.")] = False,
    why: Annotated[
        list[str] | None,
        typer.Option(help="Take the score of this item apart, listed or not: an id or a title. Repeatable."),
    ] = None,
    change: Annotated[str, typer.Option(help="What would bring this item into the list, or take it off.")] = "",
    by: Annotated[
        str,
        typer.Option(
            help="With --change: any (the cheapest concept or feature), events (which ones would have to go), or a control, whose "
            "least strength is looked for: genres:Horror, f123, or genres:Horror=1 for upwards only."
        ),
    ] = ANY,
    events: Annotated[bool, typer.Option("--events", help="Which events carry each feature of the taste.")] = False,
    top: Annotated[int, typer.Option(min=1, max=100, help="Features named; the rest is summed.")] = 5,
    server: Server = HERE,
    as_json: Json = False,
) -> None:
    """Ask a running server why: --history 50,181 --why Alien --change "Star Wars" """
    if history is not None and session:
        fail("--history: is ambiguous beside --session; give one of them")
    if by != ANY and not change:
        fail("--by: goes only beside --change ITEM", 2)
    with connected(server) as client:
        asked = pb.RecommendRequest(
            session_id=session,
            k=k,
            controls=[
                *(read_control(text, client) for text in control or ()),
                *(read_tilt(text, client) for text in tilt or ()),
            ],
            filters=pb.Filters(
                include_seen=include_seen,
                allow_item_ids=read_items("--allow", allow or [], client),
                deny_item_ids=read_items("--deny", deny or [], client),
                attributes=read_where(where or [], client),
            ),
        )
        if history is not None:
            asked.history.item_ids.extend(read_items("--history", history, client))
        request = ExplainRequest(request=asked, top_features=top, event_influence=events)
        request.item_ids.extend(read_items("--why", why or [], client))
        if change:
            request.change.CopyFrom(_query(change, by, client))
        response = client.explain(request)
        warn_of_history(response.recommendation, asked)
        if as_json:
            print_message(response)
        else:
            print_explanation(response, request, client)


def _query(item: str, by: str, client: Client) -> ChangeQuery:
    items = read_items("--change", [item], client)
    if len(items) != 1:
        fail(f"--change: {item!r} names {len(items)} items; give one, in double quotes if it has commas", 2)
    if by == ANY:
        return ChangeQuery(item_id=items[0], any_control=True)
    if by == EVENTS:
        return ChangeQuery(item_id=items[0], events=True)
    return ChangeQuery(item_id=items[0], control=read_control(by if "=" in by else f"{by}=0", client))
