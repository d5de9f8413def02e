"""The command `steersman serve`."""

import asyncio
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_args

import typer
from pydantic import SecretStr

from steersman_service.cli.address import DEFAULT_PORT
from steersman_service.cli.printing import fail, say
from steersman_service.errors import StartupError
from steersman_service.http.options import CONSOLE, HostNames, names
from steersman_service.sessions.redis_url import has_password
from steersman_service.settings import PREFIX, Settings, load_settings
from steersman_service.telemetry.logs import configure_logs

# A flag can be read by every process of the machine. These hold a secret only where they have a password.
FLAGS_OF_SECRETS = ("redis_url",)
NO_PASSWORD = (
    f"--redis-url: holds a password, which every process of this machine can read there: set {PREFIX}REDIS_URL, or write it into a file"
    f" redis_url in the folder {PREFIX}SECRETS_DIR"
)
RECOMMEND = "steersman.v1.RecommendationService/Recommend"


def _flags_of_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Gives `command` a flag for each setting that is no secret, so that none is described twice."""
    parameters = []
    for name, field in Settings.model_fields.items():
        secret = SecretStr in get_args(field.annotation)
        if secret and name not in FLAGS_OF_SECRETS:
            continue
        default = "" if field.default is None else f"; default: {field.default}"
        text = f"{field.description} ({PREFIX}{name.upper()}{default})."
        panel = "Limits" if name.startswith("max_") else "Settings"
        option = typer.Option(f"--{name.replace('_', '-')}", help=text, show_default=False, rich_help_panel=panel)
        kind: Any = str if secret else field.annotation
        annotation = Annotated[kind | None, option]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


@_flags_of_settings
def serve(**flags: Any) -> None:
    """Serve a bundle over gRPC and HTTP until Ctrl-C or SIGTERM.

    Without --redis-url, sessions are kept by an embedded Valkey in the data folder.

    Secrets are no flags: STEERSMAN_METRICS_TOKEN is read from the environment, or from a file of --secrets-dir.
    """
    import uvloop

    from steersman_service.processes.supervisor import Addresses, supervise

    def show(addresses: Addresses) -> None:
        if settings.log_format == "console":
            console = settings.http_console == "on" and (CONSOLE / "index.html").is_file()
            allowed, flags = settings.http_allowed_hosts, _tls_flags(settings)
            for line in first_calls(addresses.http, addresses.grpc, allowed, console=console, tls=flags):
                say(line)

    try:
        if has_password(flags["redis_url"] or ""):
            fail(NO_PASSWORD, 2)
        settings = load_settings(**flags)
        configure_logs(settings.log_level, settings.log_format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(supervise(settings, show))
    except StartupError as error:
        fail(str(error))


def _tls_flags(settings: Settings) -> tuple[str, str]:
    if settings.tls_files is None:
        return "", ""
    own = " --cert YOURS --key KEY" if settings.demands_certificates("http") else ""
    shown = " --tls-cert YOURS --tls-key KEY" if settings.demands_certificates("grpc") else ""
    return f" --cacert CA{own}", f" --tls-ca CA{shown}"


def first_calls(
    http: str, grpc: str, allowed_hosts: str, *, console: bool, tls: tuple[str, str] = ("", "")
) -> Iterator[str]:
    """What can be done first on this machine: an address for a browser, a call with curl, a call with gRPC.

    `http` is a URL, empty if it is off; `console` is whether it has one. `tls` are flags of curl and of steersman.
    """
    http, grpc = _on_this_machine(http), _on_this_machine(grpc)
    host = http.partition("://")[2].rpartition(":")[0]
    if http and host.lower() not in HostNames(names(allowed_hosts)):
        yield f"  over HTTP      refused at {host} until {PREFIX}HTTP_ALLOWED_HOSTS has that name; it has {allowed_hosts}"
    elif http:
        yield f"  in a browser   {http}{'/console/' if console else ''}"
        yield f"  with curl      curl{tls[0]} {http}/{RECOMMEND} -H 'content-type: application/json' -d '{{\"k\": 5}}'"
    address = "" if grpc == f"127.0.0.1:{DEFAULT_PORT}" else f" --address {grpc}"
    yield f"  over gRPC      steersman recommend --k 5{address}{tls[1]}"


def _on_this_machine(address: str) -> str:
    """One that stands for every address of the machine, as what it is reached by from here."""
    return re.sub(r"(?<![\d.])0\.0\.0\.0(?=:\d+$)", "127.0.0.1", address).replace("[::]:", "[::1]:")
