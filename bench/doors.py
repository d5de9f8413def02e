"""What TLS, a client's certificate and a token cost: a server with each against one without any, by turns in the same run.

python -m bench.doors

Both servers are up, this process is the client, and all is on loopback. Calls are GetModelInfo, which asks neither the engine nor the
session store, one at a time: on a connection that is kept, and each on a connection of its own. A turn of one is followed by a turn
of the other; who begins alternates, and differences are taken pair by pair. Times are the client's, its own part of TLS included;
processor time is of all processes of the server. `--ways plain` compares two servers without anything, which tells how much of a
difference is noise.
"""

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import jwt

from bench.overhead import cpu_seconds
from bench.quartiles import Quartiles
from steersman_client.credentials import Access, open_channel
from steersman_service.identity.api_keys import new_key

METHOD = "/steersman.v1.ModelService/GetModelInfo"
# Every channel has a connection of its own, and goes there directly.
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
START_SECONDS = 120.0
ISSUER, AUDIENCE = "https://issuer.example", "steersman"
OPENSSL = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    " -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out cert.pem"
)


class Way(NamedTuple):
    """To be let in."""

    flags: Sequence[str] = ()
    """Of the server."""
    access: Access = Access()


class Server(NamedTuple):
    """One that is ready."""

    address: str
    pid: int
    access: Access


class Turn(NamedTuple):
    """Of many calls."""

    microseconds: float
    """Median time of a call."""
    cpu_microseconds: float
    """Mean processor time of the server for a call."""


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.doors", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=Path("data/bundles/current"))
    parser.add_argument("--ways", nargs="+", default=["tls", "mutual", "key", "jwt"], choices=[*WAYS])
    parser.add_argument("--pairs", type=int, default=20, help="of turns")
    parser.add_argument("--calls", type=int, default=1000, help="of a turn, on a kept connection")
    parser.add_argument("--connections", type=int, default=100, help="of a turn, with a call each")
    given = parser.parse_args()
    for name in given.ways:
        with tempfile.TemporaryDirectory() as folder:
            way = WAYS[name](Path(folder))
            with served(given.bundle, Way()) as plain, served(given.bundle, way) as other:
                kept = _pairs(plain, other, given.pairs, lambda server: on_one(server, given.calls))
                new = _pairs(plain, other, given.pairs, lambda server: on_new(server, given.connections))
        _print(name, "a call on a kept connection", kept)
        _print(name, "a call on a connection of its own", new)


def _tls(folder: Path) -> Way:
    """One certificate, which signs itself."""
    subprocess.run(OPENSSL.split(), cwd=folder, check=True, capture_output=True)
    cert, key = folder / "cert.pem", folder / "key.pem"
    return Way(("--tls-cert", str(cert), "--tls-key", str(key)), Access(cert))


def _mutual(folder: Path) -> Way:
    """The client shows the same."""
    way, cert = _tls(folder), folder / "cert.pem"
    return Way((*way.flags, "--tls-ca", str(cert)), Access(cert, cert, folder / "key.pem"))


def _key(folder: Path) -> Way:
    key, line = new_key("recommend")
    (folder / "keys").write_text(line)
    return Way(("--api-keys", str(folder / "keys")), Access(token=key))


def _jwt(folder: Path) -> Way:
    """Signed with ECDSA on P-256."""
    for command in ("ecparam -name prime256v1 -genkey -noout -out key.pem", "ec -in key.pem -pubout -out public.pem"):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    expires = datetime.now(UTC) + timedelta(hours=6)
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "bench", "roles": ["recommend"], "tenant": "", "exp": expires}
    claims |= {"iat": datetime.now(UTC), "jti": secrets.token_hex(8)}
    token = jwt.encode(claims, (folder / "key.pem").read_text(), "ES256")
    flags = ("--jwt-keys", str(folder / "public.pem"), "--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    return Way(flags, Access(token=token))


WAYS: dict[str, Callable[[Path], Way]] = {
    "plain": lambda folder: Way(),
    "tls": _tls,
    "mutual": _mutual,
    "key": _key,
    "jwt": _jwt,
}


@contextmanager
def served(bundle: Path, way: Way) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        command = [sys.executable, "-m", "steersman_service", "serve", "--port", "0", "--metrics", "off"]
        command += ["--http", "off", "--bundle", str(bundle), "--data", folder, "--log-format", "json", *way.flags]
        with log.open("wb") as file, subprocess.Popen(command, stderr=file) as process:
            try:
                yield Server(_address(process, log), process.pid, way.access)
            finally:
                process.terminate()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        if ready := next((line for line in log.read_text().splitlines() if '"ready"' in line), None):
            return str(json.loads(ready)["address"])
        time.sleep(0.1)
    raise SystemExit(f"a server does not start: {log.read_text()}")


def on_one(server: Server, calls: int) -> Turn:
    """On one connection, which is there before the first is timed."""
    with open_channel(server.address, server.access, OPTIONS) as channel:
        ask: Any = channel.unary_unary(METHOD)
        ask(b"")
        return _turn(server, calls, lambda: ask(b""))


def on_new(server: Server, connections: int) -> Turn:
    """Each on a connection of its own."""

    def ask() -> None:
        with open_channel(server.address, server.access, OPTIONS) as channel:
            call: Any = channel.unary_unary(METHOD)
            call(b"", timeout=60)

    return _turn(server, connections, ask)


def _turn(server: Server, times: int, ask: Callable[[], object]) -> Turn:
    seconds, cpu = list[float](), cpu_seconds(server.pid)
    for _ in range(times):
        start = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - start)
    spent = cpu_seconds(server.pid) - cpu
    return Turn(1e6 * Quartiles.of(seconds).median, 1e6 * spent / times)


def _pairs(plain: Server, other: Server, count: int, turn: Callable[[Server], Turn]) -> list[tuple[Turn, Turn]]:
    """Turns of both. A first pair warms up and is left out."""
    pairs = []
    for number in range(count + 1):
        if number % 2:
            first, second = turn(plain), turn(other)
        else:
            second, first = turn(other), turn(plain)
        pairs.append((first, second))
    return pairs[1:]


def _print(name: str, what: str, pairs: Sequence[tuple[Turn, Turn]]) -> None:
    for field, of in enumerate(("time", "processor time of the server")):
        plain, other = ([turn[field] for turn in turns] for turns in zip(*pairs, strict=True))
        more = Quartiles.of([b - a for a, b in zip(plain, other, strict=True)])
        print(
            f"{name:>7}  {what}, {of}: {Quartiles.of(other).median:.0f} us beside {Quartiles.of(plain).median:.0f};"
            f" {more.median:+.0f} us more ({more.low:+.0f} to {more.high:+.0f}), {len(pairs)} pairs"
        )


if __name__ == "__main__":
    main()
