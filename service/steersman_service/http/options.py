"""What a gateway is told, by settings or by flags."""

import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("connectrpc", "starlette", "uvicorn")
LOOPBACK_HOSTS = "localhost,127.0.0.1,[::1]"
DEFAULT_BODY_BYTES = 4 << 20
CONSOLE = Path(__file__).parent / "console"
"""What `make console` builds. It is part of the package."""


@dataclass(frozen=True)
class GatewayOptions:
    """Whom the gateway answers, and how much it takes."""

    allowed_hosts: tuple[str, ...] = tuple(LOOPBACK_HOSTS.split(","))
    """Names that the header Host may have, without a port. "*" is any, "*.example.org" any below."""
    cors_origins: tuple[str, ...] = ()
    """Origins of other sites whose pages may call: "https://example.org". "*" is any."""
    max_body_bytes: int = DEFAULT_BODY_BYTES
    max_connections: int = 1024
    """More are closed at once."""
    drain_seconds: float = 20.0
    """Longest wait for calls in flight at the end."""
    console: Path | None = CONSOLE
    """The folder of the console's files. None: no console."""
    metrics_url: str = ""
    """Where the server's metrics are, as Prometheus reads them: a URL, or unix:PATH. Empty: nowhere."""
    metrics_token: str = field(default="", repr=False)
    """That is brought there. Empty: none."""
    metrics_tls: ssl.SSLContext | None = None
    """For that URL. None: as the machine trusts."""


class HostNames:
    """Names that a server goes by: see GatewayOptions."""

    def __init__(self, allowed: Iterable[str]) -> None:
        listed = [name.lower() for name in allowed]
        self._names = {name for name in listed if not name.startswith("*")}
        self._ends = tuple(name[1:] for name in listed if name.startswith("*."))
        self.any = "*" in listed

    def __contains__(self, host: str) -> bool:
        """`host` in lower case, without a port."""
        return self.any or host in self._names or bool(self._ends and host.endswith(self._ends))


def names(text: str | None) -> tuple[str, ...]:
    """Of a list with commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def installed() -> bool:
    """Whether the extra http is."""
    with suppress(ModuleNotFoundError):
        return all(find_spec(package) for package in PACKAGES)
    return False
