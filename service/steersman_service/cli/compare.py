"""compare: the list without controls beside the steered one, or beside the lists at several strengths. One call of BatchRecommend."""

import re
from collections.abc import Sequence
from typing import Annotated

import typer
from google.rpc.code_pb2 import Code

from steersman.v1 import recommendation_service_pb2 as pb
from steersman.v1.control_pb2 import Control
from steersman_service.cli.arguments import FEATURE, read_control, read_tilt, read_where
from steersman_service.cli.client import Client, connected
from steersman_service.cli.commands import Controls, Goals, History, Json, Tilts, Where
from steersman_service.cli.comparison import overlap, print_comparison
from steersman_service.cli.display import print_message, warn_of_history
from steersman_service.cli.goals import named_control, print_receipt, read_goal
from steersman_service.cli.printing import fail, print_table, remark
from steersman_service.cli.server import HERE, Server, asks_server
from steersman_service.cli.typed_items import read_items

SWEEP = re.compile(r"(?P<name>.+)=(?P<low>[^=]+?)\.\.(?P<high>[^=]+)", re.DOTALL)
STEPS = 5


@asks_server()
def compare(
    history: History = None,
    session: Annotated[str, typer.Option(help="Session id, instead of a history.")] = "",
    control: Controls = None,
    tilt: Tilts = None,
    goal: Goals = None,
    sweep: Annotated[
        str, typer.Option(help="A control at five strengths, side by side: genres:Horror=-1..1, or f123:add=0..2.")
    ] = "",
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Items wanted.")] = 10,
    where: Where = None,
    server: Server = HERE,
    as_json: Json = False,
) -> None:
    """Show the list without controls beside the steered one: --history 50,181 --control genres:Horror=0.8"""
    if not (control or tilt or goal or sweep):
        fail("compare: there is nothing to compare; give --control, --tilt, --goal or --sweep", 2)
    if history is not None and session:
        fail("--history: is ambiguous beside --session; give one of them")
    with connected(server) as client:
        controls = [*(read_control(text, client) for text in control or ())]
        controls += [read_tilt(text, client) for text in tilt or ()]
        controls += [read_goal(text, client) for text in goal or ()]
        plain = pb.RecommendRequest(session_id=session, k=k)
        plain.filters.attributes.extend(read_where(where or [], client))
        if history is not None:
            plain.history.item_ids.extend(read_items("--history", history, client))
        swept = read_sweep(sweep, client) if sweep else [None]
        requests = [plain, *(_steered(plain, controls, each) for each in swept)]
        responses = _answers(client.batch_recommend(pb.BatchRecommendRequest(requests=requests)))
        warn_of_history(responses[0], plain)
        if as_json and sweep:
            results = [pb.RecommendResult(response=response) for response in responses]
            print_message(pb.BatchRecommendResponse(results=results))
        elif sweep:
            print_sweep(responses, [each.strength for each in swept if each is not None])
        else:
            print_comparison(responses[0], responses[1], as_json)
            if not as_json:
                print_receipt(responses[1])


def read_sweep(text: str, client: Client) -> list[Control]:
    """`genres:Horror=-1..1`: a concept where the bundle has one of that name, or else a tilt; `f123:add=0..2`."""
    typed = SWEEP.fullmatch(text)
    try:
        low, high = (float(typed[end]) for end in ("low", "high")) if typed else (0.0, 0.0)
    except ValueError:
        typed = None
    if typed is None:
        fail(f"--sweep: {text!r} is no range; write genres:Horror=-1..1", 2)
    strengths = [low + (high - low) * step / (STEPS - 1) for step in range(STEPS)]
    name = typed["name"]
    if FEATURE.fullmatch(name):
        return [read_control(f"{name}={strength}", client) for strength in strengths]
    return [named_control(name, client, strength) for strength in strengths]


def print_sweep(responses: Sequence[pb.RecommendResponse], strengths: Sequence[float]) -> None:
    """`responses`: without controls, then at each of `strengths`."""
    plain, *steered = responses
    titles = ["", "without controls", *(f"at {strength:g}" for strength in strengths)]
    shown = [[item.title or item.item_id for item in each.items] for each in responses]
    longest = max(map(len, shown))
    rows = [
        (str(place + 1), *(column[place] if place < len(column) else "" for column in shown))
        for place in range(longest)
    ]
    rows.append(("overlap", "", *(f"{overlap(plain, each):.2f}" for each in steered)))
    print_table(titles, rows, foldable=titles[1:])
    remark("Next: --control or --goal in place of --sweep tells what one strength does.")


def _steered(plain: pb.RecommendRequest, controls: Sequence[Control], swept: Control | None) -> pb.RecommendRequest:
    request = pb.RecommendRequest()
    request.CopyFrom(plain)
    request.receipt = True
    request.controls.extend([*controls, *([] if swept is None else [swept])])
    return request


def _answers(answered: pb.BatchRecommendResponse) -> list[pb.RecommendResponse]:
    """All of them; ends the command if one was refused."""
    for result in answered.results:
        if result.HasField("failure"):
            refused = result.failure
            fields = "; ".join(f"{problem.field}: {problem.description}" for problem in refused.fields)
            fail(f"{Code.Name(refused.code)}: {fields or refused.message}")
    return [result.response for result in answered.results]
