"""The few endpoints of the Hugging Face hub that pulls and pushes call: one repository, in memory."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import yaml

COMMITS = [f"{number:040x}" for number in range(1, 100)]
TOKEN = "hf_of_the_test"


class FakeHub:
    """Repository `owner/repo`: commits, each with its files; branches and tags by name."""

    repo = "owner/repo"

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, bytes]] = {COMMITS[0]: {".gitattributes": b"* text"}}
        self.refs, self.tags = {"main": COMMITS[0]}, dict[str, str]()
        self.url = ""
        self.log: list[str] = []
        self.cards: list[dict[str, Any]] = []
        """What model cards that were to be pushed said, in YAML."""
        self.sends: dict[str, bytes] = {}
        """What is sent for a file instead of its content."""

    def commit_of(self, revision: str) -> str | None:
        names = {**self.refs, **self.tags, **{commit: commit for commit in self.commits}}
        return names.get(unquote(revision))

    def commit(self, lines: list[dict[str, Any]]) -> str:
        files = dict(self.commits[self.refs["main"]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.refs["main"] = commit = COMMITS[len(self.commits)]
        self.commits[commit] = files
        return commit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_: object) -> None: ...

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, document: Any) -> None:
        self._answer(200, json.dumps(document).encode(), Content_Type="application/json")

    def _missing(self, code: str) -> None:
        self._answer(404, b"{}", X_Error_Code=code, X_Error_Message=code)

    def do_GET(self) -> None:
        hub, path = self.hub, self.path.partition("?")[0]
        hub.log.append(f"GET {path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" or hub.repo not in path:
            self._answer(401, b"{}", X_Error_Code="RepoNotFound", X_Error_Message="Invalid username or password.")
            return
        parts = path.split(f"{hub.repo}", 1)[1].strip("/").split("/")
        if parts == ["refs"]:
            refs = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": c} for n, c in hub.tags.items()]
            self._json({"branches": [], "converts": [], "tags": refs, "pullRequests": []})
            return
        revision = parts[1] if len(parts) > 1 else "main"
        commit = hub.commit_of(revision)
        if commit is None:
            self._missing("RevisionNotFound")
        elif parts[0] == "resolve":
            content = hub.sends.get(parts[2], hub.commits[commit].get(parts[2]))
            if content is None:
                self._missing("EntryNotFound")
            else:
                self._answer(200, content, ETag='"x"', X_Repo_Commit=commit)
        elif parts[0] == "tree":
            listed = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in hub.commits[commit].items()
            ]
            self._json(listed)
        else:
            siblings = [{"rfilename": name} for name in hub.commits[commit]]
            self._json({"id": hub.repo, "sha": commit, "siblings": siblings, "tags": [], "private": True})

    def do_POST(self) -> None:
        hub, body = self.hub, self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.log.append(f"POST {self.path}")
        if self.path == "/api/repos/create":
            self._json({"url": f"{hub.url}/{hub.repo}", "name": hub.repo, "id": "1"})
        elif self.path == "/api/validate-yaml":
            front = yaml.safe_load(json.loads(body)["content"].split("---")[1]) or {}
            hub.cards.append(front)
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            answer = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for f in files]
            self._json({"files": answer})
        elif "/commit/" in self.path:
            commit = hub.commit([json.loads(line) for line in body.splitlines() if line.strip()])
            self._json({"commitOid": commit, "commitUrl": f"{hub.url}/{hub.repo}/commit/{commit}", "hookOutput": ""})
        elif "/tag/" in self.path:
            commit_of = hub.commit_of(self.path.rpartition("/")[2])
            assert commit_of is not None
            hub.tags[json.loads(body)["tag"]] = commit_of
            self._json({})
        else:
            self._missing("EntryNotFound")

    def do_DELETE(self) -> None:
        self.hub.log.append(f"DELETE {self.path}")
        del self.hub.tags[self.path.rpartition("/")[2]]
        self._json({})


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Serves an empty repository on loopback."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
