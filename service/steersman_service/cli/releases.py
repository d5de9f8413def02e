"""The command `releases`: lists and changes the bundles that a running server serves."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from steersman.v1 import release_service_pb2 as pb
from steersman_service.cli.client import connected
from steersman_service.cli.commands import Json
from steersman_service.cli.display import print_message
from steersman_service.cli.printing import fail, print_table, warn
from steersman_service.cli.server import HERE, Server, asks_server

CHANNELS = {pb.CHANNEL_STABLE: "stable", pb.CHANNEL_CANARY: "canary"}
STATES = {
    pb.RELEASE_STATE_LOADING: "loading",
    pb.RELEASE_STATE_SERVING: "serving",
    pb.RELEASE_STATE_DRAINING: "draining",
    pb.RELEASE_STATE_BEFORE: "before",
    pb.RELEASE_STATE_REFUSED: "refused",
}
VERSION_CHARACTERS = 12


class Action(StrEnum):
    """What to do."""

    LIST = "list"
    LOAD = "load"
    CANARY = "canary"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


@asks_server(timeout=600.0)
def releases(
    action: Annotated[Action, typer.Argument(help="What to do.", show_default=False)],
    target: Annotated[
        str, typer.Argument(help="Of load and canary: a bundle's version, or its folder's name. Of promote: a version.")
    ] = "",
    share: Annotated[
        float | None, typer.Option(help="Of canary: the share of sessions that it answers, 0 to 1.", show_default=False)
    ] = None,
    server: Server = HERE,
    as_json: Json = False,
) -> None:
    """Change the bundle that is served while it runs: releases canary VERSION --share 0.05; releases promote; releases rollback"""
    method, request = _asked(action, target, share)
    with connected(server) as client:
        found = client.releases(method, request)
    if as_json:
        print_message(pb.ListReleasesResponse(releases=found))
    else:
        _print(found)


def _asked(action: Action, target: str, share: float | None) -> tuple[str, Any]:
    """Method and request. Ends the command if something is missing, or too much."""
    if share is not None and action is not Action.CANARY:
        fail(f"releases {action.value}: --share goes only with canary", 2)
    if target and action in (Action.LIST, Action.ROLLBACK):
        fail(f"releases {action.value}: takes no bundle", 2)
    match action:
        case Action.LOAD:
            if not target:
                fail("releases load: the version of a bundle, or the name of its folder, is missing", 2)
            return "LoadRelease", pb.LoadReleaseRequest(bundle=target, channel=pb.CHANNEL_STABLE)
        case Action.CANARY:
            if share is None:
                fail("releases canary: --share is missing: 0.05 gives the canary a twentieth of the sessions", 2)
            if not target:
                return "SetCanaryShare", pb.SetCanaryShareRequest(canary_share=share)
            return "LoadRelease", pb.LoadReleaseRequest(bundle=target, channel=pb.CHANNEL_CANARY, canary_share=share)
        case Action.PROMOTE:
            return "PromoteCanary", pb.PromoteCanaryRequest(version=target)
        case Action.ROLLBACK:
            return "RollBack", pb.RollBackRequest()
    return "ListReleases", pb.ListReleasesRequest()


def _print(found: Sequence[pb.Release]) -> None:
    rows = [
        (
            (one.version or one.name)[:VERSION_CHARACTERS],
            CHANNELS.get(one.channel, ""),
            STATES.get(one.state, ""),
            f"{one.share:.1%}" if one.state == pb.RELEASE_STATE_SERVING else "",
            one.since.ToDatetime().isoformat(" ", "seconds"),
        )
        for one in found
    ]
    print_table(("bundle", "channel", "state", "share", "since"), rows)
    for one in found:
        if one.problem:
            warn(f"{(one.version or one.name)[:VERSION_CHARACTERS]}: {one.problem}")
