"""The console script `steersman`: the service's commands, and those of the entry-point group `steersman.commands`."""

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
    EntryPoint("loadtest", "steersman_loadtest.command:loadtest", GROUP),
)
# What brings all that the commands of a module import: see pyproject.toml.
EXTRAS = {
    "steersman_service.cli.serve": "service",
    "steersman_service.cli.commands": "client",
    "steersman_loadtest.command": "loadtest",
    "steersman_training.commands": "training",
}
# Rounds for which a thread of OpenMP looks whether the others are done before it sleeps. libgomp's own 300,000 are milliseconds of a core,
# and where other work wants that core, the others cannot become done: an epoch of training took ten to forty times as long.
SPINS = "1000"


def make_app() -> typer.Typer:
    """The commands of whichever extras are installed; the others say what they need."""
    app = typer.Typer(
        help="A recommender that people can steer.", no_args_is_help=True, pretty_exceptions_show_locals=False
    )
    app.callback()(_options)
    for entry in (*OWN, *entry_points(group=GROUP)):
        try:
            app.command(entry.name)(_guarded(entry, entry.load()))
        except ImportError as error:
            _add_unavailable(app, entry, _need(entry, error))
    return app


def main() -> None:
    bound_spinning()
    for stream in (sys.stdout, sys.stderr):  # a title that the terminal's encoding lacks is no reason to fail
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    make_app()()


def bound_spinning() -> None:
    """Lets threads that wait for each other sleep soon, unless the environment says how they shall wait.

    libgomp reads it when torch or faiss is imported, here and in child processes.
    """
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


def _guarded(entry: EntryPoint, command: Callable[..., None]) -> Callable[..., None]:
    """`command`, which may import what it needs when it runs, and says in a line what is missing then."""

    @functools.wraps(command)
    def guarded(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except ImportError as error:
            _end(entry, _need(entry, error))

    return guarded


def _add_unavailable(app: typer.Typer, entry: EntryPoint, need: str) -> None:
    def unavailable() -> NoReturn:
        _end(entry, need)

    options = {"ignore_unknown_options": True, "allow_extra_args": True}
    help_text = need[0].upper() + need[1:]
    app.command(entry.name, help=help_text.replace("[", "\\["), context_settings=options)(unavailable)


def _end(entry: EntryPoint, need: str) -> NoReturn:
    typer.echo(f"steersman {entry.name}: {need}", err=True)
    raise typer.Exit(1)


def _need(entry: EntryPoint, error: ImportError) -> str:
    """What is missing, and how to get it. Raises `error` again if that is no package that one could install."""
    package = (error.name or "").partition(".")[0]
    absent = error.name == entry.module.partition(".")[0]  # the whole package of the command
    if not package or (package.startswith("steersman") and not absent) or package in sys.stdlib_module_names:
        raise error
    if not isinstance(error, ModuleNotFoundError):
        return f"{package} is installed, but cannot be imported: {' '.join(str(error).split())}"
    if entry.module not in EXTRAS:
        return f"needs {error.name}, which is not installed"
    extra = EXTRAS[entry.module]
    return f"needs {error.name}, of the extra {extra}: pip install 'steersman[{extra}]'"
