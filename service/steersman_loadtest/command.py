"""The command `steersman loadtest`."""

import json
import os
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from steersman_client.credentials import Access
from steersman_loadtest.errors import LoadTestError
from steersman_loadtest.mix import Mix
from steersman_loadtest.options import Arrivals, LoadTestOptions, with_options
from steersman_loadtest.printing import print_line
from steersman_loadtest.rate_search import RateSearch
from steersman_loadtest.target import DEFAULT_ADDRESS, Target, connected, read_access, read_target

# They need the extra: the command itself does not, so that it can say so.
if TYPE_CHECKING:
    from steersman_loadtest.fleet import SendOptions
    from steersman_loadtest.harness import LoadTestResult, Plan
    from steersman_loadtest.histories import Histories
    from steersman_loadtest.scenario import Scenario

PLOT_FORMATS = (".png", ".svg", ".pdf")


@with_options
def loadtest(**given: Any) -> None:
    """Send a running server calls at a set rate, check every answer, and measure from when calls were due.

    Ends with exit code 1 if a call failed, a check failed, or an acknowledged event was lost.
    The sessions of a test that is interrupted stay until they expire.
    """
    options = LoadTestOptions(**given)
    _check_options(options)
    from steersman_loadtest import report

    if options.plot:
        from steersman_loadtest.plot import plot
    sending, plan = _sending(options), _plan(options)
    try:
        scenario, result = _test(options, sending, plan)
        figures = report.as_json(scenario, sending, result)
        if options.out:
            options.out.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        if options.plot:
            plot(result.main, options.plot)
    except (LoadTestError, OSError) as error:
        _fail(str(error))
    if options.as_json:
        typer.echo(json.dumps(figures))
    else:
        report.print_report(scenario, sending, result)
        print_line(f"Next: {_next(options)}", stderr=True)
    raise typer.Exit(0 if result.passed else 1)


def _check_options(options: LoadTestOptions) -> None:
    """Before the run, so that its figures are not lost."""
    if options.then and not options.search:
        _fail("--then: goes only with --search", 2)
    if not options.histories and (options.user_column or options.item_column or options.time_column):
        _fail("--user-column, --item-column, --time-column: columns are those of --histories; give that, too", 2)
    for name, file in (("--out", options.out), ("--plot", options.plot)):
        if file and not file.absolute().parent.is_dir():
            _fail(f"{name}: there is no folder {file.absolute().parent}", 2)
    if options.plot and options.plot.suffix not in PLOT_FORMATS:
        _fail(f"--plot: {options.plot.name}: must end in {', '.join(PLOT_FORMATS)}", 2)
    try:
        target = read_target(options.address)
    except ValueError as error:
        _fail(f"--address: {error}", 2)
    try:
        _access(options, target)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}", 2)
    except ValueError as error:
        _fail(str(error).replace("tls_", "--tls-").replace("token:", "--token-file:"), 2)


def _access(options: LoadTestOptions, target: Target) -> Access:
    """Raises ValueError or OSError."""
    return read_access(target, options.tls_ca, options.tls_cert, options.tls_key, options.token_file)


def _sending(options: LoadTestOptions) -> "SendOptions":
    from steersman_loadtest.fleet import SendOptions

    return SendOptions(
        poisson=options.arrivals is Arrivals.POISSON,
        seed=options.seed,
        checked=options.check,
        tolerance=options.tolerance,
        timeout_seconds=options.timeout,
    )


def _plan(options: LoadTestOptions) -> "Plan":
    from steersman_loadtest.harness import Plan

    search = RateSearch(options.rate, probe_seconds=options.probe_seconds, hold_seconds=options.hold_seconds)
    return Plan(
        rate=options.rate,
        seconds=options.seconds,
        search=search if options.search else None,
        p99_ms=options.p99_ms,
        then=options.then,
        processes=options.processes,
        most_processes=max(options.processes, options.most_processes or os.cpu_count() or 1),
        audit_seconds=options.audit_seconds if options.audit else 0.0,
    )


def _test(options: LoadTestOptions, sending: "SendOptions", plan: "Plan") -> "tuple[Scenario, LoadTestResult]":
    from steersman_loadtest.display import LoadTestDisplay
    from steersman_loadtest.fleet import Fleet
    from steersman_loadtest.harness import Harness
    from steersman_loadtest.preparation import prepare

    mix = Mix(**{field.name: getattr(options, field.name) for field in fields(Mix)})
    histories = _histories(options) if options.histories else None
    timeout = max(10.0, options.timeout)
    access = _access(options, read_target(options.address))
    with connected(options.address, access) as channel:
        prepared = prepare(channel, options.address, mix, histories, seed=options.seed, timeout_seconds=timeout)
    scenario = replace(prepared, access=access)
    with LoadTestDisplay() as display, Fleet(scenario, sending) as fleet:
        return scenario, Harness(fleet, plan, display).test()


def _histories(options: LoadTestOptions) -> "Histories":
    """Histories of a file. What was read is shown on standard error."""
    from steersman_loadtest.histories import read_histories
    from steersman_loadtest.interactions import HistoryColumns

    columns = HistoryColumns(options.user_column, options.item_column, options.time_column)
    found = read_histories(options.histories or Path(), options.seed, columns)
    for line in found.summary:
        print_line(line, stderr=True)
    return found


def _next(options: LoadTestOptions) -> str:
    if not options.search:
        where = "" if options.address == DEFAULT_ADDRESS else f" --address {shlex.quote(options.address)}"
        return f"the rate that the server holds: steersman loadtest --search{where}"
    return "a plot of it: the same with --plot FILE.png" if options.plot is None else f"look at {options.plot}"


def _fail(text: str, code: int = 1) -> NoReturn:
    """Ends the command. `code` is 2 where the command line itself is wrong."""
    print_line(text, "red", stderr=True)
    raise typer.Exit(code)
