"""The command `steersman loadtest`."""

import json
import os
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from steersman_loadtest.errors import LoadTestError
from steersman_loadtest.mix import Mix
from steersman_loadtest.printing import print_line
from steersman_loadtest.rate_search import RateSearch
from steersman_loadtest.target import DEFAULT_ADDRESS, connected, read_target

if TYPE_CHECKING:
    from steersman_loadtest.fleet import SendOptions
    from steersman_loadtest.harness import LoadTestResult, Plan
    from steersman_loadtest.histories import Histories
    from steersman_loadtest.scenario import Scenario

PICTURES = (".png", ".svg", ".pdf")


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


def loadtest(
    address: Annotated[str, typer.Option(help="Where the server listens: host:port, or a host.")] = DEFAULT_ADDRESS,
    histories: Annotated[
        Path | None,
        typer.Option(help="Interactions as `steersman train` takes them, a file or a folder. [default: made up]"),
    ] = None,
    user_column: Annotated[str | None, _column("Who.", "--user-column", "user_id, user, userId")] = None,
    item_column: Annotated[
        str | None, _column("Which item.", "--item-column", "item_id, item, itemId, movieId")
    ] = None,
    time_column: Annotated[
        str | None, _column("When, in ISO 8601 or numbers.", "--time-column", "timestamp, time, position")
    ] = None,
    rate: Annotated[float, _rate("Calls a second; with --search, the first that is tried.", min=0.1, max=1e6)] = 50.0,
    seconds: Annotated[float, _rate("Length of the run.", min=1, max=86400)] = 30.0,
    search: Annotated[bool, _rate("Search for the saturating rate.", "--search")] = False,
    then: Annotated[float, _rate("After a search, a run at this part of the rate found.", min=0, max=1)] = 0.0,
    p99_ms: Annotated[float, _rate("A search wants p99 below this.", min=0.1)] = 100.0,
    hold_seconds: Annotated[float, _rate("A search wants its rate held this long.", min=1, max=3600)] = 30.0,
    probe_seconds: Annotated[float, _rate("Length of a search's short runs.", min=1, max=600)] = 5.0,
    session: Annotated[float, _share("Of all calls: those of sessions, AppendEvents and Recommend by turns.")] = 0.5,
    steered: Annotated[float, _share("Of Recommend calls: those with a control.")] = 0.5,
    concepts: Annotated[
        float, _share("Of the steered ones: those that steer a concept; others steer a feature.")
    ] = 0.6,
    filtered: Annotated[float, _share("Of Recommend calls: those with a filter.")] = 0.2,
    canary: Annotated[float, _share("Of Recommend calls by history: those whose answer is known.")] = 0.1,
    k: Annotated[int, _option("Mix", "Items wanted.", "--k", "-k", min=1)] = 10,
    users: Annotated[int, _option("Mix", "Active sessions of each client process.", min=1, max=100_000)] = 100,
    arrivals: Annotated[Arrivals, _sending("At random, or evenly spaced.")] = Arrivals.POISSON,
    seed: Annotated[int, _sending("Of everything random.", min=0)] = 0,
    processes: Annotated[int, _sending("Client processes at first.", min=1, max=64)] = 1,
    most_processes: Annotated[
        int | None, _sending("Client processes at most. [default: the CPU cores]", min=1, max=64, show_default=False)
    ] = None,
    timeout: Annotated[float, _sending("Longest wait for an answer, in seconds.", min=0.01, max=600)] = 5.0,
    check: Annotated[float, _sending("Share of the answers that are checked.", min=0, max=1)] = 1.0,
    tolerance: Annotated[float, _sending("Of canaries' scores, relative to their scale.", min=0, max=1)] = 1e-5,
    audit: Annotated[bool, _sending("Compare all sessions with what was acknowledged, and delete them.")] = True,
    audit_seconds: Annotated[float, _sending("Limit of the audit.", min=1, max=3600)] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the JSON to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the run into this file (.png, .svg, .pdf).")] = None,
) -> None:
    """Send a running server calls at a set rate, check every answer, and measure from when calls were due.

    Ends with exit code 1 if a call failed, something that must hold did not, or an acknowledged event was lost.
    The sessions of a test that is interrupted stay until they expire.
    """
    if then and not search:
        _fail("--then: goes only with --search", 2)
    columns = (user_column, item_column, time_column)
    if any(columns) and not histories:
        _fail("--user-column, --item-column, --time-column: columns are those of --histories; give that, too", 2)
    _check_files(out, plot)
    try:
        read_target(address)
    except ValueError as error:
        _fail(str(error), 2)
    from steersman_loadtest import harness, report
    from steersman_loadtest.fleet import SendOptions

    if plot:
        from steersman_loadtest.plot import plot as draw
    mix = Mix(session, steered, concepts, filtered, canary, k, users)
    sending = SendOptions(arrivals is Arrivals.POISSON, seed, check, tolerance, timeout)
    plan = harness.Plan(
        rate=rate,
        seconds=seconds,
        search=RateSearch(rate, probe_seconds=probe_seconds, hold_seconds=hold_seconds) if search else None,
        p99_ms=p99_ms,
        then=then,
        processes=processes,
        most_processes=max(processes, most_processes or os.cpu_count() or 1),
        audit_seconds=audit_seconds if audit else 0.0,
    )
    try:
        scenario, results = _tested(address, _histories(histories, columns, seed), mix, sending, plan)
        figures = report.as_json(scenario, sending, results)
        if out:
            out.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        if plot:
            draw(results.main, plot)
    except (LoadTestError, OSError) as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(figures))
    else:
        report.print_report(scenario, sending, results)
        print_line(f"Next: {_next(address, search, plot)}", stderr=True)
    raise typer.Exit(0 if results.passed else 1)


def _histories(file: Path | None, columns: tuple[str | None, str | None, str | None], seed: int) -> "Histories | None":
    """Those of a file; what was read of it is shown on standard error."""
    from steersman_loadtest.histories import read_histories
    from steersman_loadtest.interactions import HistoryColumns

    if not file:
        return None
    found = read_histories(file, seed, HistoryColumns(*columns))
    for line in found.told:
        typer.echo(line, err=True)
    return found


def _tested(
    address: str, histories: "Histories | None", mix: Mix, sending: "SendOptions", plan: "Plan"
) -> "tuple[Scenario, LoadTestResult]":
    from steersman_loadtest.display import LoadTestDisplay
    from steersman_loadtest.fleet import Fleet
    from steersman_loadtest.harness import Harness
    from steersman_loadtest.preparation import prepare

    with connected(address) as channel:
        scenario = prepare(
            channel, address, mix, histories, seed=sending.seed, timeout_seconds=max(10.0, sending.timeout_seconds)
        )
    with LoadTestDisplay() as display, Fleet(scenario, sending) as fleet:
        return scenario, Harness(fleet, plan, display).test()


def _check_files(out: Path | None, plot: Path | None) -> None:
    """Before the run: it would be a pity to lose its figures."""
    for name, file in (("--out", out), ("--plot", plot)):
        if file and not file.absolute().parent.is_dir():
            _fail(f"{name}: there is no folder {file.absolute().parent}", 2)
    if plot and plot.suffix not in PICTURES:
        _fail(f"--plot: {plot.name}: must end in {', '.join(PICTURES)}", 2)


def _fail(text: str, code: int = 1) -> NoReturn:
    """Ends the command. `code` is 2 where the command line itself is wrong."""
    print_line(text, "red", stderr=True)
    raise typer.Exit(code)


def _next(address: str, search: bool, plot: Path | None) -> str:
    if not search:
        where = "" if address == DEFAULT_ADDRESS else f" --address {shlex.quote(address)}"
        return f"the rate that the server holds: steersman loadtest --search{where}"
    return "a picture of it: the same with --plot FILE.png" if plot is None else f"look at {plot}"
