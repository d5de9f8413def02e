"""The console's files over HTTP: who is sent to them, how long they are kept, and what is no file of theirs."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from steersman_service.http.options import GatewayOptions
from tests.service.http.gateways import Gateway, connect_status, gatewayed, reason
from tests.serving import Running

HTML = "text/html,application/xhtml+xml,*/*;q=0.8"
SCRIPT = "assets/index-DaIo3fHk.js"
POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Vite leaves it, with a secret beside it, and things that are no files of a console."""
    around = tmp_path_factory.mktemp("package")
    (around / "secret.txt").write_text("secret")
    folder = around / "console"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Steersman</title>")
    (folder / "favicon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / SCRIPT).write_text("export {}")
    (folder / "assets/index-B0_x-9aZ.css").write_text("body {}")
    (folder / "link.txt").symlink_to(around / "secret.txt")
    (folder / "run.sh").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def console(server: Running, built: Path) -> Iterator[Gateway]:
    with gatewayed(f"127.0.0.1:{server.ports.grpc}", console=built) as running:
        yield running


@pytest.fixture(scope="module")
def without(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The build is missing."""
    with gatewayed(f"127.0.0.1:{server.ports.grpc}", console=tmp_path_factory.mktemp("none") / "console") as running:
        yield running


@pytest.mark.parametrize(
    ("accept", "sent"),
    [
        (HTML, True),
        ("text/html", True),
        ("application/json, TEXT/HTML ; q=0.5", True),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("text/html;q=0, application/json", False),
        ("text/html; q=0.000", False),
        ("", False),
    ],
)
def test_people_are_sent_to_the_console_and_programs_are_not(console: Gateway, accept: str, sent: bool) -> None:
    reply = console.get("/", {"accept": accept})
    assert reply.headers["vary"] == "accept"
    if sent:
        assert (reply.status, reply.headers["location"]) == (307, "console/")
    else:
        assert (reply.status, reply.json["name"], reply.json["console"]) == (200, "steersman", "/console/")
    assert console.get("/console").headers["location"] == "console/"


@pytest.mark.parametrize(
    ("path", "media_type", "caching"),
    [
        ("", "text/html; charset=utf-8", "no-cache"),
        ("index.html", "text/html; charset=utf-8", "no-cache"),
        ("favicon.svg", "image/svg+xml", "no-cache"),
        (SCRIPT, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
        ("assets/index-B0_x-9aZ.css", "text/css; charset=utf-8", "public, max-age=31536000, immutable"),
    ],
)
def test_files_are_given_with_what_a_browser_has_to_know(
    console: Gateway, built: Path, path: str, media_type: str, caching: str
) -> None:
    reply = console.get(f"/console/{path}")
    assert (reply.status, reply.body) == (200, (built / (path or "index.html")).read_bytes())
    assert reply.headers["content-type"] == media_type
    assert reply.headers["cache-control"] == caching
    assert reply.headers["content-security-policy"] == POLICY
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    etag = reply.headers["etag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        again = console.get(f"/console/{path}", {"if-none-match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
        assert again.headers["cache-control"] == caching
    assert console.get(f"/console/{path}", {"if-none-match": '"other"'}).status == 200
    head = console.send(f"/console/{path}", None, {}, "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(reply.body)))


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip, deflate, br", True),
        ("br;q=1, GZIP;q=0.5", True),
        ("gzip;q=0, br", False),
        ("identity", False),
        ("", False),
    ],
)
def test_files_are_packed_where_that_is_taken(console: Gateway, built: Path, accepted: str, packed: bool) -> None:
    reply = console.get(f"/console/{SCRIPT}", {"accept-encoding": accepted})
    assert reply.headers["vary"] == "accept-encoding"
    assert (reply.headers.get("content-encoding") == "gzip") is packed
    assert (gzip.decompress(reply.body) if packed else reply.body) == (built / SCRIPT).read_bytes()


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "assets/../../secret.txt",
        "assets/..%2f..%2fsecret.txt",
        "..%5csecret.txt",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "link.txt",
        "run.sh",
        "index.html%00.js",
        "assets",
        "assets/",
        "none.js",
        "index.html/",
    ],
)
def test_nothing_else_is_given(console: Gateway, path: str) -> None:
    reply = console.get(f"/console/{path}")
    assert reply.status == 404
    assert reason(connect_status(reply)) == "NO_SUCH_PATH"
    assert b"secret" not in reply.body


def test_the_console_is_read_only_and_goes_by_the_servers_names(console: Gateway) -> None:
    assert console.send("/console/").status == 405
    assert reason(connect_status(console.get("/console/", {"host": "evil.example"}))) == "HOST"


def test_a_build_that_is_missing_is_told(without: Gateway) -> None:
    for path in ("/console/", f"/console/{SCRIPT}"):
        reply = without.get(path, {"accept": HTML})
        assert (reply.status, reason(connect_status(reply))) == (404, "NO_CONSOLE")
    reply = without.get("/", {"accept": HTML})
    assert (reply.status, "console" in reply.json) == (200, False)


def test_the_console_can_be_off(server: Running) -> None:
    with gatewayed(f"127.0.0.1:{server.ports.grpc}", console=None) as off:
        assert reason(connect_status(off.get("/console/"))) == "NO_SUCH_PATH"
        assert off.get("/console").status == 404
        assert off.get("/", {"accept": HTML}).json["name"] == "steersman"


def test_the_console_is_looked_for_in_the_package() -> None:
    folder = GatewayOptions().console
    assert folder
    assert (folder.name, folder.parent.name) == ("console", "http")
