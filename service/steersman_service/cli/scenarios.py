"""The command `scenarios`: lists, shows, writes, deletes and replays the scenarios of a running server."""

import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.timestamp_pb2 import Timestamp

from steersman.v1 import scenario_service_pb2 as pb
from steersman_service.cli.client import Client, connected
from steersman_service.cli.commands import Json
from steersman_service.cli.display import print_message
from steersman_service.cli.printing import fail, print_table, remark, say, warn
from steersman_service.cli.server import HERE, Server, asks_server

ACTIONS = {pb.SCENARIO_ACTION_PUT: "put", pb.SCENARIO_ACTION_DELETE: "delete"}
STATUSES = {
    pb.REPLAY_STATUS_HELD: "held",
    pb.REPLAY_STATUS_MOVED: "moved",
    pb.REPLAY_STATUS_BROKEN: "broken",
    pb.REPLAY_STATUS_NOTHING_TO_COMPARE: "nothing to compare",
}
WORSE = (pb.REPLAY_STATUS_MOVED, pb.REPLAY_STATUS_BROKEN)


class Action(StrEnum):
    """What to do."""

    LIST = "list"
    SHOW = "show"
    PUT = "put"
    DELETE = "delete"
    CHANGES = "changes"
    REPLAY = "replay"


@asks_server()
def scenarios(
    action: Annotated[Action, typer.Argument(help="What to do.", show_default=False)],
    target: Annotated[
        str, typer.Argument(help="A scenario's name; of put, a JSON file as show prints it, or - for standard input.")
    ] = "",
    author: Annotated[str, typer.Option(help="Who changes it, for the list of changes.")] = "",
    version: Annotated[int, typer.Option(min=0, help="Of delete: only if this version is kept.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Of put: whatever version is kept.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Scenarios or changes shown at most.")] = 50,
    server: Server = HERE,
    as_json: Json = False,
) -> None:
    """Keep scenarios, which recommend --scenario NAME uses: scenarios show home > home.json; scenarios put home.json"""
    if not target and action in (Action.SHOW, Action.PUT, Action.DELETE):
        what = "a JSON file" if action is Action.PUT else "the name of a scenario"
        fail(f"scenarios {action.value}: {what} is missing", 2)
    if target and action is Action.LIST:
        fail(f"scenarios list: takes no name; scenarios show {target} shows one", 2)
    given = _read(target) if action is Action.PUT else None
    with connected(server) as client:
        if given is not None:
            _put(given, author, client, force=force)
        elif action is Action.LIST:
            _list(client, limit, as_json=as_json)
        elif action is Action.SHOW:
            print_message(client.scenario(target))
        elif action is Action.DELETE:
            existed = client.delete_scenario(pb.DeleteScenarioRequest(name=target, version=version, author=author))
            say(f"{target}: {'deleted' if existed else 'there was none'}")
        elif action is Action.REPLAY:
            _replay(client, target, as_json=as_json)
        else:
            _changes(client, target, limit, as_json=as_json)


def _read(path: str) -> pb.Scenario:
    """Ends the command if the file is no scenario."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("it is no object")
        return ParseDict(data, pb.Scenario())
    except (OSError, ValueError, ParseError) as error:
        fail(f"scenarios put: {path} is no scenario in JSON: {error}", 2)


def _put(scenario: pb.Scenario, author: str, client: Client, *, force: bool) -> None:
    if force:
        scenario.version = client.scenario_version(scenario.name)
    answer = client.put_scenario(pb.PutScenarioRequest(scenario=scenario, author=author))
    kept = answer.scenario
    say(f"{kept.name}: version {kept.version}")
    if not answer.measured_histories:
        warn("its effects could not be measured: until it is put again, a new bundle has nothing to compare with")
    remark(f"Next: {client.command('recommend', '--scenario', kept.name)}")


def _list(client: Client, limit: int, *, as_json: bool) -> None:
    listed = client.scenarios(limit)
    if as_json:
        print_message(listed)
        return
    rows = [
        (one.name, str(one.version), str(len(one.controls)), _time(one.updated), one.updated_by, one.description)
        for one in listed.scenarios
    ]
    print_table(("name", "version", "controls", "updated", "by", "description"), rows, foldable=("description",))
    say(f"{len(listed.scenarios)} of {listed.total_size} scenarios")


def _changes(client: Client, name: str, limit: int, *, as_json: bool) -> None:
    listed = client.scenario_changes(limit, name)
    if as_json:
        print_message(listed)
        return
    rows = [
        (_time(one.time), one.name, ACTIONS.get(one.action, ""), str(one.version), one.author) for one in listed.changes
    ]
    print_table(("time", "name", "change", "version", "by"), rows)


def _replay(client: Client, name: str, *, as_json: bool) -> None:
    """Ends the command with exit code 1 if a scenario moved or broke."""
    answer = client.replays([name] if name else [])
    if as_json:
        print_message(answer)
    else:
        rows = [row for replay in answer.replays for row in _replayed(replay)]
        print_table(("name", "version", "status", "effect", "before", "interval", "now"), rows, foldable=("effect",))
        for replay in answer.replays:
            if replay.problem:
                warn(f"{replay.name}: {replay.problem}")
    worse = [replay.name for replay in answer.replays if replay.status in WORSE]
    if worse:
        fail(f"{len(worse)} of {len(answer.replays)} scenarios do something else with bundle {answer.bundle_version}")


def _replayed(replay: pb.ScenarioReplay) -> Iterator[tuple[str, ...]]:
    """A row for each effect; the first has the scenario."""
    head = (replay.name, str(replay.version), STATUSES.get(replay.status, ""))
    if not replay.effects:
        yield (*head, "", "", "", "")
    for effect in replay.effects:
        interval = f"{effect.least:.2f} to {effect.most:.2f}"
        now = f"{effect.now:.2f}{' outside' if effect.outside else ''}"
        yield (*head, effect.name, f"{effect.before:.2f}", interval, now)
        head = ("", "", "")


def _time(time: Timestamp) -> str:
    return time.ToDatetime().isoformat(" ", "seconds")
