"""The command `steersman serve`."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from steersman_service.cli.printing import fail
from steersman_service.errors import StartupError
from steersman_service.settings import PREFIX, Settings, load_settings
from steersman_service.telemetry.logs import configure_logs


def _flags_of_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Gives `command` a flag for each setting, so that none is described twice."""
    parameters = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f"; default: {field.default}"
        text = f"{field.description} ({PREFIX}{name.upper()}{default})."
        panel = "Limits" if name.startswith("max_") else "Settings"
        option = typer.Option(f"--{name.replace('_', '-')}", help=text, show_default=False, rich_help_panel=panel)
        annotation = Annotated[field.annotation | None, option]  # type: ignore[name-defined]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


@_flags_of_settings
def serve(**flags: Any) -> None:
    """Serve a bundle over gRPC until Ctrl-C or SIGTERM.

    Without --redis-url, sessions are kept by an embedded Valkey in the data folder.
    """
    import uvloop

    from steersman_service.processes.supervisor import supervise

    try:
        settings = load_settings(**flags)
        configure_logs(settings.log_level, settings.log_format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(supervise(settings))
    except StartupError as error:
        fail(str(error))
