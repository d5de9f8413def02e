"""The command `key`: makes API keys. No server is asked: it reads the file that the line is added to."""

from enum import StrEnum
from typing import Annotated

import typer

from steersman_service.cli.printing import fail, remark, say
from steersman_service.identity.api_keys import new_key

RoleName = StrEnum("RoleName", ("recommend", "steer", "admin"))


class Action(StrEnum):
    """What to do."""

    NEW = "new"


def key(
    action: Annotated[Action, typer.Argument(help="What to do.", show_default=False)],
    role: Annotated[
        RoleName,
        typer.Option("--role", "--roles", help="What its holder may do; each may do what those before it may."),
    ] = RoleName.recommend,
    tenant: Annotated[str, typer.Option(help="Whose sessions its holder sees; empty: those of no tenant.")] = "",
    name: Annotated[str, typer.Option(help="Who holds it, for the list of changes. [default: the key's id]")] = "",
    days: Annotated[float | None, typer.Option(help="It expires after so many. [default: never]")] = None,
) -> None:
    """Make an API key: steersman key new --role steer --tenant acme --name shop"""
    if days is not None and not 0 < days <= 36_500:
        fail(f"--days: {days:g}: give a number above 0, and at most 36500", 2)
    try:
        made, line = new_key(role.value, tenant, name, days)
    except ValueError as error:
        fail(f"key {action.value}: {error}", 2)
    remark("The key, which is shown this once:")
    say(made)
    remark("The line for the server's file of keys (STEERSMAN_API_KEYS), without which it is nothing:")
    say(line)
