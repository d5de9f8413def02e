"""What a gateway is told, by settings or by flags."""

from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec

PACKAGES = ("connectrpc", "starlette", "uvicorn")
LOOPBACK_HOSTS = "localhost,127.0.0.1,[::1]"
DEFAULT_BODY_BYTES = 4 << 20


@dataclass(frozen=True)
class GatewayOptions:
    """Whom the gateway answers, and how much it takes."""

    allowed_hosts: tuple[str, ...] = tuple(LOOPBACK_HOSTS.split(","))
    """Names that the header Host may have, without a port. "*" is any, "*.example.org" any below."""
    cors_origins: tuple[str, ...] = ()
    """Origins of other sites whose pages may call: "https://example.org". "*" is any."""
    max_body_bytes: int = DEFAULT_BODY_BYTES
    drain_seconds: float = 20.0
    """Longest wait for calls in flight at the end."""


def names(text: str | None) -> tuple[str, ...]:
    """Of a list with commas."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def installed() -> bool:
    """Whether the extra http is."""
    with suppress(ModuleNotFoundError):
        return all(find_spec(package) for package in PACKAGES)
    return False
