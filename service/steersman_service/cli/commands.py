"""The commands that call a running server: recommend, features, items. They need only the extra `client`."""

from typing import Annotated

import typer

from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.control_pb2 import Control
from steersman_service.cli.arguments import (
    read_control,
    read_like,
    read_neighbours,
    read_tilt,
    read_where,
    read_words,
)
from steersman_service.cli.catalogue import print_attributes, print_neighbours
from steersman_service.cli.client import Client, connected
from steersman_service.cli.comparison import print_comparison
from steersman_service.cli.display import (
    print_concepts,
    print_features,
    print_items,
    print_message,
    print_recommendations,
    warn_of_history,
)
from steersman_service.cli.events import check_session, read_events
from steersman_service.cli.goals import print_receipt, read_goal
from steersman_service.cli.printing import fail
from steersman_service.cli.server import HERE, Server, asks_server
from steersman_service.cli.typed_items import read_items

Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
History = Annotated[
    list[str] | None,
    typer.Option(
        help="Item ids or titles, oldest first: 50,181,172, or Alien. Repeatable. Write a name that has commas in double quotes, or "
        "alone in an option of its own."
    ),
]
Controls = Annotated[
    list[str] | None,
    typer.Option(
        help="genres:Horror=0.8, f123:add=0.5, f123:scale=2, f123:ablate. Repeatable. Write a concept whose name looks like a feature in "
        "double quotes: '\"f12\"=0.8'."
    ),
]
Tilts = Annotated[
    list[str] | None,
    typer.Option(
        help="By an attribute of the items, in nats: genres:Horror=0.8, or year=-0.5 for a numeric one. Repeatable. The longest known name "
        "of an attribute is used; write another one in double quotes."
    ),
]
Goals = Annotated[
    list[str] | None,
    typer.Option(
        help="What a control should reach in place of a strength: a share of the list, genres:Horror>=0.4 or genres:Western<=0.1, or a "
        "budget, genres:Horror:overlap>=0.7 or genres:Horror:divergence<=0.1; @-2 behind it bounds the strength. A concept, or else a "
        "tilt. Repeatable."
    ),
]
Likes = Annotated[
    list[str] | None,
    typer.Option(
        help="More like these items, or less: Alien, Aliens=-0.5. Ids or titles, as with --history. Repeatable."
    ),
]
WordsOption = Annotated[
    list[str] | None, typer.Option("--words", help="What is asked for, in words: slow crime=0.8. Repeatable.")
]
NewItems = Annotated[
    list[str] | None,
    typer.Option(help="Items just consumed, to append to the session: ids or titles, as with --history."),
]
Disliked = Annotated[
    list[str] | None,
    typer.Option(
        help="Items that are disliked, as with --history: never recommended to the session again, and less like them."
    ),
]
Hidden = Annotated[
    list[str] | None, typer.Option(help="Items taken off the page, as with --history. The same follows.")
]
Shown = Annotated[
    list[str] | None,
    typer.Option(
        help="Items that were on the page, as with --history: counted for exposure, without effect on the answer."
    ),
]
Where = Annotated[
    list[str] | None, typer.Option(help="Only items with genres=Horror. Repeatable. Names as with --tilt.")
]
Allow = Annotated[list[str] | None, typer.Option(help="Only these items, as with --history.")]
Deny = Annotated[list[str] | None, typer.Option(help="None of these items, as with --history.")]
Compare = Annotated[bool, typer.Option("--compare", help="Show the list without --control and --tilt beside it.")]


MAX_NEIGHBOURS = 100


@asks_server()
def recommend(
    history: History = None,
    session: Annotated[str, typer.Option(help="Session id, instead of a history.")] = "",
    new: NewItems = None,
    dislike: Disliked = None,
    hide: Hidden = None,
    shown: Shown = None,
    control: Controls = None,
    tilt: Tilts = None,
    goal: Goals = None,
    like: Likes = None,
    words: WordsOption = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Items wanted.")] = 10,
    where: Where = None,
    allow: Allow = None,
    deny: Deny = None,
    include_seen: Annotated[bool, typer.Option(help="Do not exclude items of the history.")] = False,
    scenario: Annotated[str, typer.Option(help="Scenario whose controls, filters and composition come first.")] = "",
    compare: Compare = False,
    server: Server = HERE,
    as_json: Json = False,
) -> None:
    """Ask a running server for items, and steer: --history 50,181 --control genres:Horror=0.8"""
    if compare and not (control or tilt or goal or like or words):
        fail("--compare: there is nothing to compare; give --control, --tilt, --goal, --like or --words, too", 2)
    if history is not None and session:
        fail("--history: is ambiguous beside --session; give one of them")
    events = {"--new": new, "--dislike": dislike, "--hide": hide, "--shown": shown}
    check_session(events, session)
    with connected(server) as client:
        controls = _controls(client, control, tilt, goal, like, words)
        filters = pb.Filters(
            include_seen=include_seen,
            allow_item_ids=read_items("--allow", allow or [], client),
            deny_item_ids=read_items("--deny", deny or [], client),
            attributes=read_where(where or [], client),
        )
        request = pb.RecommendRequest(
            session_id=session,
            k=k,
            controls=controls,
            filters=filters,
            new_events=read_events(events, client),
            scenario=scenario,
        )
        if history is not None:
            request.history.item_ids.extend(read_items("--history", history, client))
        response = client.recommend(request)
        # The first call has appended the new events.
        request.ClearField("controls")
        request.ClearField("new_events")
        plain = client.recommend(request) if compare else None
        warn_of_history(response, request)
        if plain:
            print_comparison(plain, response, as_json)
        elif as_json:
            print_message(response)
        else:
            print_recommendations(response, client)
        if not as_json:
            print_receipt(response)


def _controls(
    client: Client, control: Controls, tilt: Tilts, goal: Goals, like: Likes, words: WordsOption
) -> list[Control]:
    return [
        *(read_control(text, client) for text in control or ()),
        *(read_tilt(text, client) for text in tilt or ()),
        *(read_goal(text, client) for text in goal or ()),
        *(read_like(text, client) for text in like or ()),
        *map(read_words, words or ()),
    ]


@asks_server()
def features(
    text: Annotated[
        str,
        typer.Option(
            help="Only those whose label, attribute or titles contain this; with --concepts: whose name does."
        ),
    ] = "",
    steerable: Annotated[bool, typer.Option("--steerable", help="Only features that steer as labelled.")] = False,
    rare: Annotated[
        bool, typer.Option("--all", help="Rare features, too: active at less than 0.5% of events.")
    ] = False,
    concepts: Annotated[bool, typer.Option("--concepts", help="List concepts instead.")] = False,
    items: Annotated[
        list[str] | None, typer.Option(help="Only those that fire on these items, as with recommend --history.")
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(help="What is like this feature or concept, and what undoes it: f12, or genres:Horror."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Features shown at most.")] = 50,
    server: Server = HERE,
    as_json: Json = False,
) -> None:
    """List the features or concepts by which a running server can be steered."""
    with connected(server) as client:
        if like is not None:
            near = client.neighbours(read_neighbours(like, min(limit, MAX_NEIGHBOURS), client))
            print_message(near) if as_json else print_neighbours(near, like)
        elif concepts:
            listed = client.concepts(text)
            print_message(listed) if as_json else print_concepts(listed, client)
        else:
            item_ids = read_items("--items", items or [], client)
            page = client.features(limit, text, steerable_only=steerable, include_rare=rare, item_ids=item_ids)
            print_message(page) if as_json else print_features(page, client, rare=rare)


@asks_server()
def items(
    text: Annotated[list[str] | None, typer.Argument(help="Words of a title, or an id. [default: all items]")] = None,
    attributes: Annotated[
        bool, typer.Option("--attributes", help="List attributes and their values instead: those that contain TEXT.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Items, or values, shown at most.")] = 20,
    server: Server = HERE,
    as_json: Json = False,
) -> None:
    """Find items of a running server by words of their titles: steersman items star wars"""
    wanted = " ".join(text or [])
    with connected(server) as client:
        if attributes:
            known = client.attributes(wanted, limit)
            print_message(known) if as_json else print_attributes(known, client)
            return
        page = client.items(limit, wanted)
        print_message(page) if as_json else print_items(page, client, wanted)
