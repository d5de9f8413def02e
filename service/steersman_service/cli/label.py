"""The command `label`: corrects the label of a feature of a running server."""

import re
from typing import Annotated

import typer

from steersman.v1 import feature_service_pb2 as pb
from steersman_service.cli.client import connected
from steersman_service.cli.printing import fail, remark, say
from steersman_service.cli.server import HERE, Server, asks_server

FEATURE = re.compile(r"f?(\d{1,9})")


@asks_server()
def label(
    feature: Annotated[str, typer.Argument(help="A feature of the served bundle: f123.", show_default=False)],
    text: Annotated[
        str, typer.Argument(help="The label, for everybody; empty brings the automatic one back.", show_default=False)
    ],
    author: Annotated[str, typer.Option(help="Who corrects it.")] = "",
    server: Server = HERE,
) -> None:
    """Correct what a feature is called: label f123 "Gritty crime". It stays across retrainings."""
    named = FEATURE.fullmatch(feature)
    if not named:
        fail(f"label: {feature!r} is no feature: write f123; `steersman features` lists them", 2)
    with connected(server) as client:
        version = client.info.bundle_version
        request = pb.SetLabelRequest(id=int(named[1]), bundle_version=version, label=text, author=author)
        now = client.set_label(request)
        say(f"f{now.id} is {now.label!r}")
        if now.HasField("correction"):
            remark(
                f"Automatic label: {now.correction.automatic_label!r}. Back to it: {client.command('label', named[0], '')}"
            )
