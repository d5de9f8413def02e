"""The console script `steersman`: the service's commands, and those of the entry-point group `steersman.commands`."""

from importlib.metadata import EntryPoint, entry_points
from typing import NoReturn

import typer

GROUP = "steersman.commands"
OWN = (
    *(EntryPoint(name, f"steersman_service.commands:{name}", GROUP) for name in ("serve", "recommend", "features")),
    EntryPoint("loadtest", "steersman_service.loadtest.command:loadtest", GROUP),
)
EXTRAS = {"steersman_service": "service", "steersman_training": "training"}


def make_app() -> typer.Typer:
    """The commands of whichever extras are installed; the others say what they need."""
    app = typer.Typer(
        help="A recommender that people can steer.", no_args_is_help=True, pretty_exceptions_show_locals=False
    )
    for entry in (*OWN, *entry_points(group=GROUP)):
        try:
            app.command(entry.name)(entry.load())
        except ImportError as error:
            _add_unavailable(app, entry, error)
    return app


def main() -> None:
    make_app()()


def _add_unavailable(app: typer.Typer, entry: EntryPoint, error: ImportError) -> None:
    package = entry.module.partition(".")[0]
    need = f"Needs {error.name or package}: pip install 'steersman[{EXTRAS.get(package, package)}]'"

    def unavailable() -> NoReturn:
        typer.echo(f"steersman {entry.name}: {need}", err=True)
        raise typer.Exit(1)

    options = {"ignore_unknown_options": True, "allow_extra_args": True}
    app.command(entry.name, help=need.replace("[", "\\["), context_settings=options)(unavailable)
