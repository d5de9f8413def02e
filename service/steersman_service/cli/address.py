"""Where a server is: the address as a person types it, and whether a proxy stands between."""

import ipaddress
import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

DEFAULT_PORT = 50051
# Targets that name no host and port, and are gRPC's own affair.
OTHER = re.compile(r"(unix|unix-abstract|vsock|xds|google-c2p):")
NAMED = re.compile(r"(?P<scheme>dns:(//[^/]*/)?|ipv4:|ipv6:)?(?P<rest>.*)")
HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]/,\s]+)(:(?P<port>\d+))?")
# gRPC takes the first that is set, in lower case alone.
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


class Address(NamedTuple):
    """Of a server."""

    target: str
    """As gRPC takes it, with a port."""
    host: str
    """Empty if it is no host."""

    @property
    def loopback(self) -> bool:
        """Whether it is this machine, which no proxy can reach."""
        name = self.host.strip("[]").lower().rstrip(".")
        if name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return mapped.is_loopback or mapped.is_unspecified

    @property
    def options(self) -> list[tuple[str, int]]:
        """Of a channel to it."""
        return [("grpc.enable_http_proxy", 0)] if self.loopback else []

    @property
    def proxy(self) -> str:
        """The variable that sends calls through a proxy, with the proxy's host; empty if they go directly."""
        if not self.host or self.loopback or proxy_bypass(self.host.strip("[]")):
            return ""
        name = next((name for name in PROXIES if os.environ.get(name)), "")
        # Without the password that may stand there.
        return name and f"{name} ({urlsplit(os.environ[name]).netloc.rpartition('@')[2] or 'not a URL'})"


def read_address(text: str) -> Address:
    """Understands `host`, `host:port`, IPv6 with brackets or without, and gRPC's own names. Raises ValueError, with the remedy."""
    if OTHER.match(text):
        return Address(text, "")
    if "://" in text and not text.startswith("dns:"):
        raise ValueError(f"{text!r} is a URL: write host:port, as in localhost:{DEFAULT_PORT}")
    named = NAMED.fullmatch(text)
    scheme, rest = (named["scheme"] or "", named["rest"]) if named else ("", text)
    if scheme.startswith("ipv") and "," in rest:
        return Address(text, "")
    if rest.count(":") > 1 and "[" not in rest:
        rest = f"[{rest}]"
    found = HOST_AND_PORT.fullmatch(rest)
    if not found or (found["port"] and not 0 < int(found["port"]) < 65536):
        raise ValueError(
            f"{text!r} is no address: write host:port, as in localhost:{DEFAULT_PORT} or [::1]:{DEFAULT_PORT}"
        )
    if found["host"].isdigit() and not found["port"]:
        raise ValueError(f"{text!r} names no host: write localhost:{found['host']}")
    return Address(f"{scheme}{found['host']}:{found['port'] or DEFAULT_PORT}", found["host"])
