"""The server that a command calls: its options, and a channel to it."""

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer

from steersman_client.credentials import Access, open_channel, why_not_let_in
from steersman_service.cli.address import DEFAULT_PORT, Address, read_address
from steersman_service.cli.printing import fail

DEFAULT_ADDRESS = f"127.0.0.1:{DEFAULT_PORT}"
TOKEN_VARIABLE = "STEERSMAN_TOKEN"
PANEL = "Server"

TlsCa = Annotated[
    Path | None,
    typer.Option(
        help="Speak TLS: authorities in PEM, one of which has signed the server's certificate.", rich_help_panel=PANEL
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(help="Your certificate in PEM, where the server wants to see one.", rich_help_panel=PANEL),
]
TlsKey = Annotated[Path | None, typer.Option(help="Its private key in PEM.", rich_help_panel=PANEL)]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        help=f"A file that holds your token. Or set {TOKEN_VARIABLE}: on a command line others could read it.",
        rich_help_panel=PANEL,
    ),
]


@dataclass(frozen=True)
class Server:
    """Each field is an option."""

    address: Annotated[
        str, typer.Option(help="Where the server listens: host:port, or a host.", rich_help_panel=PANEL)
    ] = DEFAULT_ADDRESS
    timeout: Annotated[float, typer.Option(help="Longest wait for an answer, in seconds.", rich_help_panel=PANEL)] = (
        10.0
    )
    tls_ca: TlsCa = None
    tls_cert: TlsCert = None
    tls_key: TlsKey = None
    token_file: TokenFile = None

    @property
    def flags(self) -> list[str]:
        """Of a command that calls the same server."""
        where = [] if self.address == DEFAULT_ADDRESS else ["--address", self.address]
        files = ("tls_ca", "tls_cert", "tls_key", "token_file")
        named = [(f"--{name.replace('_', '-')}", getattr(self, name)) for name in files]
        return [*where, *(text for flag, file in named if file is not None for text in (flag, str(file)))]

    def read(self) -> tuple[Address, Access]:
        """Ends the command if they do not go together."""
        try:
            address = read_address(self.address)
        except ValueError as error:
            fail(f"--address: {error}", 2)
        return address, read_access(address, self.tls_ca, self.tls_cert, self.tls_key, self.token_file)


HERE = Server()


def asks_server(timeout: float = 10.0) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of a Server, in place of its parameter `server`."""

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name != "server":
                parameters.append(parameter)
                continue
            for field in fields(Server):
                default = timeout if field.name == "timeout" else field.default
                kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
                parameters.append(inspect.Parameter(field.name, kind, default=default, annotation=field.type))

        @functools.wraps(command)
        def asking(**given: Any) -> None:
            own = {field.name: given.pop(field.name) for field in fields(Server)}
            command(**given, server=Server(**own))

        asking.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        asking.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return asking

    return decorated


def read_access(
    address: Address, tls_ca: Path | None, tls_cert: Path | None, tls_key: Path | None, token_file: Path | None
) -> Access:
    """Ends the command if they do not go together, or cannot be read."""
    try:
        access = Access(tls_ca, tls_cert, tls_key, read_token(token_file))
        access.credentials()
        access.check_token(address.target, local=address.local)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", 2)
    except ValueError as error:
        fail(_flags(str(error)), 2)
    return access


def read_token(file: Path | None) -> str | None:
    """That of the file, or else of the environment. Raises OSError."""
    if file is not None:
        return file.read_text("utf-8", "replace").strip()
    return os.environ.get(TOKEN_VARIABLE, "").strip() or None


def channel_to(address: Address, access: Access) -> grpc.Channel:
    return open_channel(address.target, access, address.options)


def explain_tls(said: str, access: Access) -> str:
    """What gRPC says of a server that cannot be reached, if TLS is the matter; else nothing."""
    return _flags(why_not_let_in(said, access))


def _flags(text: str) -> str:
    """With the names of options."""
    for name in ("ca", "cert", "key"):
        text = text.replace(f"tls_{name}", f"--tls-{name}")
    return text.replace("token:", "--token-file:")
