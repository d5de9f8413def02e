"""The options of `steersman loadtest`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from steersman_loadtest.target import DEFAULT_ADDRESS


class Arrivals(StrEnum):
    """When calls are due."""

    POISSON = "poisson"
    EVEN = "even"


def _option(panel: str, text: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, **limits)


def _rate(text: str, *names: str, **limits: Any) -> Any:
    return _option("Rate", text, *names, **limits)


def _share(text: str) -> Any:
    return _option("Mix", text, min=0, max=1)


def _sending(text: str, *names: str, **limits: Any) -> Any:
    return _option("Sending and checking", text, *names, **limits)


def _column(text: str, flag: str, default: str) -> Any:
    return _option("Columns of --histories", text, flag, metavar="NAME", show_default=default)


@dataclass(frozen=True)
class LoadTestOptions:
    """Each field is an option, with its help and limits."""

    address: Annotated[str, typer.Option(help="Where the server listens: host:port, or a host.")] = DEFAULT_ADDRESS
    tls_ca: Annotated[Path | None, typer.Option(help="Speak TLS: authorities of the server's certificate.")] = None
    tls_cert: Annotated[Path | None, typer.Option(help="Your certificate, where the server wants to see one.")] = None
    tls_key: Annotated[Path | None, typer.Option(help="Its private key.")] = None
    token_file: Annotated[Path | None, typer.Option(help="A file with your token. Or set STEERSMAN_TOKEN.")] = None
    histories: Annotated[
        Path | None,
        typer.Option(help="Interactions as `steersman train` takes them, a file or a folder. [default: made up]"),
    ] = None
    user_column: Annotated[str | None, _column("Who.", "--user-column", "user_id, user, userId")] = None
    item_column: Annotated[str | None, _column("Which item.", "--item-column", "item_id, item, itemId, movieId")] = None
    time_column: Annotated[
        str | None, _column("When, in ISO 8601 or numbers.", "--time-column", "timestamp, time, position")
    ] = None
    rate: Annotated[float, _rate("Calls a second; with --search, the first that is tried.", min=0.1, max=1e6)] = 50.0
    seconds: Annotated[float, _rate("Length of the run.", min=1, max=86400)] = 30.0
    search: Annotated[bool, _rate("Search for the saturating rate.", "--search")] = False
    then: Annotated[float, _rate("After a search, a run at this part of the rate found.", min=0, max=1)] = 0.0
    p99_ms: Annotated[float, _rate("A search wants p99 below this.", min=0.1)] = 100.0
    hold_seconds: Annotated[float, _rate("A search wants its rate held this long.", min=1, max=3600)] = 30.0
    probe_seconds: Annotated[float, _rate("Length of a search's short runs.", min=1, max=600)] = 5.0
    session: Annotated[float, _share("Of all calls: those of sessions, AppendEvents and Recommend by turns.")] = 0.5
    steered: Annotated[float, _share("Of Recommend calls: those with a control.")] = 0.5
    concepts: Annotated[float, _share("Of the steered ones: those that steer a concept; others steer a feature.")] = 0.6
    filtered: Annotated[float, _share("Of Recommend calls: those with a filter.")] = 0.2
    canary: Annotated[float, _share("Of Recommend calls by history: those whose answer is known.")] = 0.1
    k: Annotated[int, _option("Mix", "Items wanted.", "--k", "-k", min=1)] = 10
    users: Annotated[int, _option("Mix", "Active sessions of each client process.", min=1, max=100_000)] = 100
    arrivals: Annotated[Arrivals, _sending("At random, or evenly spaced.")] = Arrivals.POISSON
    seed: Annotated[int, _sending("Of everything random.", min=0)] = 0
    processes: Annotated[int, _sending("Client processes at first.", min=1, max=64)] = 1
    most_processes: Annotated[
        int | None, _sending("Client processes at most. [default: the CPU cores]", min=1, max=64, show_default=False)
    ] = None
    timeout: Annotated[float, _sending("Longest wait for an answer, in seconds.", min=0.01, max=600)] = 5.0
    check: Annotated[float, _sending("Share of the answers that are checked.", min=0, max=1)] = 1.0
    tolerance: Annotated[float, _sending("Of canaries' scores, relative to their scale.", min=0, max=1)] = 1e-5
    audit: Annotated[bool, _sending("Compare all sessions with what was acknowledged, and delete them.")] = True
    audit_seconds: Annotated[float, _sending("Limit of the audit.", min=1, max=3600)] = 60.0
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False
    out: Annotated[Path | None, typer.Option(help="Write the JSON to this file.")] = None
    plot: Annotated[Path | None, typer.Option(help="Draw the run into this file (.png, .svg, .pdf).")] = None


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives `command`, which takes keywords, an option for each field of LoadTestOptions."""
    parameters = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(LoadTestOptions)
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command
