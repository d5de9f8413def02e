"""The address of a server as typed on the command line, and the proxy that gRPC would use for it."""

import ipaddress
import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

DEFAULT_PORT = 50051
# gRPC resolves these: they name no single host and port.
RESOLVED_BY_GRPC = re.compile(r"(unix|unix-abstract|vsock|xds|google-c2p):.*|ipv[46]:.*,.*", re.DOTALL)
SCHEME_AND_REST = re.compile(r"(?P<scheme>dns:(//[^/]*/)?|ipv4:|ipv6:)?(?P<rest>.*)", re.DOTALL)
HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]/,\s]+)(:(?P<port>\d+))?")
BARE_IPV6 = re.compile(r"(?=[^:]*:[^:]*:)[0-9A-Fa-f:.]+(%[\w.-]+)?")
# In gRPC's order; it ignores upper case.
PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")


class Address(NamedTuple):
    target: str
    """As gRPC takes it, with a port."""
    host: str
    """Without brackets; empty if gRPC resolves the target."""

    @property
    def loopback(self) -> bool:
        name = self.host.lower().rstrip(".")
        if name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return mapped.is_loopback or mapped.is_unspecified

    @property
    def local(self) -> bool:
        """Whether calls stay on this machine."""
        return self.loopback or self.target.startswith("unix")

    @property
    def options(self) -> list[tuple[str, int]]:
        """Of a channel. No proxy is used for loopback addresses."""
        return [("grpc.enable_http_proxy", 0)] if self.loopback else []

    @property
    def proxy(self) -> str:
        """The variable that names the proxy, with the proxy's host but no password; empty if no proxy is used."""
        if not self.host or self.loopback or proxy_bypass(self.host):
            return ""
        name = next((name for name in PROXIES if os.environ.get(name)), "")
        return name and f"{name} ({urlsplit(os.environ[name]).netloc.rpartition('@')[2] or 'not a URL'})"


def read_address(text: str) -> Address:
    """`host`, `host:port`, IPv6 with brackets or without, and gRPC's own targets. Raises ValueError, with the remedy."""
    if RESOLVED_BY_GRPC.fullmatch(text):
        return Address(text, "")
    if "://" in text and not text.startswith("dns:"):
        raise ValueError(f"{text!r} is a URL: write host:port, as in localhost:{DEFAULT_PORT}")
    named = SCHEME_AND_REST.fullmatch(text)
    assert named
    rest = named["rest"]
    typed = HOST_AND_PORT.fullmatch(f"[{rest}]" if BARE_IPV6.fullmatch(rest) else rest)
    if not typed or (typed["port"] and not 0 < int(typed["port"]) < 65536):
        examples = f"localhost:{DEFAULT_PORT} or [::1]:{DEFAULT_PORT}"
        raise ValueError(f"{text!r} is no address: write host:port, as in {examples}")
    host = typed["host"]
    if host.isdigit() and not typed["port"]:
        raise ValueError(f"{text!r} names no host: write localhost:{host}")
    return Address(f"{named['scheme'] or ''}{host}:{typed['port'] or DEFAULT_PORT}", host.strip("[]"))
