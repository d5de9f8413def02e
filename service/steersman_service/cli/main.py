"""The console script `steersman`: the commands of this project, and those of the entry-point group `steersman.commands`."""

import functools
import io
import os
import platform
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any, NoReturn

import typer

GROUP = "steersman.commands"
OWN = (
    EntryPoint("serve", "steersman_service.cli.serve:serve", GROUP),
    *(EntryPoint(name, f"steersman_service.cli.commands:{name}", GROUP) for name in ("recommend", "features", "items")),
    EntryPoint("explain", "steersman_service.cli.explain:explain", GROUP),
    EntryPoint("scenarios", "steersman_service.cli.scenarios:scenarios", GROUP),
    EntryPoint("releases", "steersman_service.cli.releases:releases", GROUP),
    EntryPoint("label", "steersman_service.cli.label:label", GROUP),
    EntryPoint("key", "steersman_service.cli.key:key", GROUP),
    EntryPoint("compare", "steersman_service.cli.compare:compare", GROUP),
    EntryPoint("gateway", "steersman_service.cli.gateway:gateway", GROUP),
    EntryPoint("loadtest", "steersman_loadtest.command:loadtest", GROUP),
)
# The commands of `steersman bundle`.
BUNDLE = (
    *(EntryPoint(name, f"steersman_service.cli.bundle:{name}", GROUP) for name in ("verify", "pull", "push")),
    EntryPoint("list", "steersman_service.cli.bundle:list_", GROUP),
    *(EntryPoint(name, f"steersman_training.commands:{name}", GROUP) for name in ("keygen", "sign")),
)
# The extra that each module of commands needs: see pyproject.toml.
EXTRAS = {
    "steersman_service.cli.bundle": "service",
    "steersman_service.cli.serve": "service",
    "steersman_service.cli.commands": "client",
    "steersman_service.cli.explain": "client",
    "steersman_service.cli.scenarios": "client",
    "steersman_service.cli.releases": "client",
    "steersman_service.cli.label": "client",
    "steersman_service.cli.key": "service",
    "steersman_service.cli.compare": "client",
    "steersman_service.cli.gateway": "http",
    "steersman_loadtest.command": "loadtest",
    "steersman_training.commands": "training",
}
# Rounds that an OpenMP thread spins at a barrier before it sleeps. libgomp's default of 300,000 takes milliseconds of a core, which other
# threads of the same barrier may need: with more threads than cores, an epoch of training took ten to forty times as long.
SPINS = "1000"


def make_app() -> typer.Typer:
    """All commands. Those whose extra is not installed say so when they are run."""
    app = typer.Typer(
        help="A recommender that people can steer.", no_args_is_help=True, pretty_exceptions_show_locals=False
    )
    app.callback()(_options)
    for entry in (*OWN, *entry_points(group=GROUP)):
        _add(app, entry, entry.name)
    bundle = typer.Typer(help="Check, sign and share bundles.", no_args_is_help=True)
    for entry in BUNDLE:
        _add(bundle, entry, f"bundle {entry.name}")
    app.add_typer(bundle, name="bundle")
    return app


def _add(app: typer.Typer, entry: EntryPoint, name: str) -> None:
    """A command; `name` is what it is called by, after `steersman`."""
    try:
        app.command(entry.name)(_guarded(entry, name, entry.load()))
    except ImportError as error:
        _add_unavailable(app, entry, name, _need(entry, error))


def main() -> None:
    bound_spinning()
    # gRPC's own lines are no answers: a command says itself what failed.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for stream in (sys.stdout, sys.stderr):  # A title may have characters that the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    make_app()()


def bound_spinning() -> None:
    """Sets GOMP_SPINCOUNT, unless the environment configures how threads wait. libgomp reads it when torch or faiss is imported."""
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"steersman {version('steersman')} (Python {platform.python_version()})")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of `steersman` itself."""


def _guarded(entry: EntryPoint, name: str, command: Callable[..., None]) -> Callable[..., None]:
    """`command`, with a message in place of an ImportError: some commands import what they need when they run."""

    @functools.wraps(command)
    def guarded(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except ImportError as error:
            _end(name, _need(entry, error))

    return guarded


def _add_unavailable(app: typer.Typer, entry: EntryPoint, name: str, need: str) -> None:
    def unavailable() -> NoReturn:
        _end(name, need)

    options = {"ignore_unknown_options": True, "allow_extra_args": True}
    help_text = (need[0].upper() + need[1:]).replace("[", "\\[")
    app.command(entry.name, help=help_text, context_settings=options)(unavailable)


def _end(name: str, need: str) -> NoReturn:
    typer.echo(f"steersman {name}: {need}", err=True)
    raise typer.Exit(1)


def _need(entry: EntryPoint, error: ImportError) -> str:
    """The missing package, and how to install it. Raises `error` if it is a fault of Steersman's own modules."""
    package = (error.name or "").partition(".")[0]
    absent = error.name == entry.module.partition(".")[0]  # the whole package of the command
    if not package or (package.startswith("steersman") and not absent) or package in sys.stdlib_module_names:
        raise error
    if not isinstance(error, ModuleNotFoundError):
        return f"{package} is installed, but cannot be imported: {' '.join(str(error).split())}"
    extra = EXTRAS.get(entry.module)
    if extra is None:
        return f"needs {error.name}, which is not installed"
    return f"needs {error.name}, of the extra {extra}: pip install 'steersman[{extra}]'"
