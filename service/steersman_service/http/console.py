"""The console's files: what its build has left in the package, read once."""

import gzip
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from steersman_service.errors import NoConsole, NoSuchPath
from steersman_service.http.refusal import refused

CONSOLE_PATH, INDEX = "/console/", "index.html"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
# What the console's own files may do in a browser: nothing that is not served here beside them, and nothing written into the page.
POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
# "assets/index-DaIo3fHk.js": another content has another name.
HASHED = re.compile(r"assets/.*-[A-Za-z0-9_-]{8}\.\w+")
GZIP = re.compile(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", re.IGNORECASE)
FOREVER, ASK_AGAIN = "public, max-age=31536000, immutable", "no-cache"


class ConsoleFile(NamedTuple):
    content: bytes
    packed: bytes
    """By gzip."""
    media_type: str
    etag: str
    caching: str


class Console:
    """Answers for the paths below CONSOLE_PATH. A path is looked up among the files that were found: none leads out of the folder."""

    def __init__(self, folder: Path) -> None:
        """`folder` need not be there."""
        self._files = dict(_files(folder))
        self.built = INDEX in self._files

    async def give(self, request: Request) -> Response:
        if not self.built:
            return refused(NoConsole())
        found = self._files.get(request.path_params["path"] or INDEX)
        if found is None:
            return refused(NoSuchPath())
        headers = {**HEADERS, "etag": found.etag, "cache-control": found.caching, "vary": "accept-encoding"}
        if _has(request.headers.get("if-none-match", ""), found.etag):
            return Response(status_code=304, headers=headers)
        headers["content-type"] = found.media_type
        if GZIP.search(request.headers.get("accept-encoding", "")):
            return Response(found.packed, headers={**headers, "content-encoding": "gzip"})
        return Response(found.content, headers=headers)


async def to_console(request: Request) -> Response:
    """Relative, so that it holds behind any proxy and wherever the application is mounted."""
    return RedirectResponse(CONSOLE_PATH.removeprefix("/"), 307, {"vary": "accept"})


def wants_page(request: Request) -> bool:
    """Whether the caller names text/html among what it takes, as browsers do; curl and fetch take anything, which is not the same."""
    for accepted in ",".join(request.headers.getlist("accept")).lower().split(","):
        kind, *parameters = (part.replace(" ", "") for part in accepted.split(";"))
        if kind == "text/html" and not any(re.fullmatch(r"q=0(\.0*)?", each) for each in parameters):
            return True
    return False


def _files(folder: Path) -> Iterator[tuple[str, ConsoleFile]]:
    for path in sorted(folder.rglob("*")):
        media_type = MEDIA_TYPES.get(path.suffix)
        if media_type is None or path.is_symlink() or not path.is_file():
            continue
        name, content = path.relative_to(folder).as_posix(), path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        caching = FOREVER if HASHED.fullmatch(name) else ASK_AGAIN
        yield name, ConsoleFile(content, gzip.compress(content, mtime=0), media_type, etag, caching)


def _has(if_none_match: str, etag: str) -> bool:
    return any(each.strip().removeprefix("W/") in (etag, "*") for each in if_none_match.split(","))
