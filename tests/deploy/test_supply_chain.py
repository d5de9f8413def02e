"""What images are made of: versions that are locked and hashed, listed, and audited."""

import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.files import DEPLOY, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())
REQUIREMENTS = sorted(DEPLOY.glob("requirements*.txt"))
IN_IMAGES = ("service", "http", "traces", "s3", "hub")
PUBLIC = ("https://pypi.org/simple", "https://files.pythonhosted.org/packages/")


def run(*command: str | Path) -> tuple[int, str]:
    """Exit status and all output."""
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_lock_and_what_images_install_are_those_of_the_project() -> None:
    """Without asking anybody."""
    assert run("deploy/lock.py", "--check") == (0, "")


def test_the_lock_names_pypi_alone_and_leaves_torch_out() -> None:
    for package in LOCK["package"]:
        source = package["source"]
        assert source == {"registry": PUBLIC[0]} or "editable" in source
        files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
        assert all(file["url"].startswith(PUBLIC[1]) and file["hash"].startswith("sha256:") for file in files)
    assert "torch" not in {package["name"] for package in LOCK["package"]}, "it would be a CUDA build of several GB"


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_every_requirement_has_a_version_and_hashes(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in lines:
        assert re.match(r"[\w.-]+==\S+ ", line), line
        assert " --hash=sha256:" in line, line
    assert "://" not in text


def test_images_install_what_the_extras_name() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = {canonicalize_name(Requirement(each).name) for name in IN_IMAGES for each in extras[name]} - {"steersman"}
    listed = set(re.findall(r"^([\w.-]+)==", (DEPLOY / "requirements.txt").read_text(), re.MULTILINE))
    assert wanted <= {canonicalize_name(name) for name in listed}
    # What only tests and training use is not in them.
    assert not {"pytest", "torch", "polars", "matplotlib"} & listed


def test_the_bill_of_materials_has_every_requirement(tmp_path: Path) -> None:
    file = tmp_path / "bill.json"
    options = ("--pyproject", "pyproject.toml", "--output-reproducible", "--of", "JSON", "-o", file)
    assert run("-m", "cyclonedx_py", "requirements", *options, "deploy/requirements.txt")[0] == 0
    bill = json.loads(file.read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert (bill["metadata"]["component"]["name"], bill["metadata"]["component"]["version"]) == (
        "steersman",
        PROJECT["version"],
    )
    listed = re.findall(r"^([\w.-]+)==([^\s;]+)", (DEPLOY / "requirements.txt").read_text(), re.MULTILINE)
    assert {(each["name"], each["version"]) for each in bill["components"]} == set(listed)


def test_an_audit_that_reaches_nobody_says_so() -> None:
    status, told = run("deploy/audit.py", "--osv-url", "http://127.0.0.1:9/v1/query")
    assert status == 0
    assert told.startswith("audit: SKIPPED, http://127.0.0.1:9/v1/query cannot be reached")


def test_an_audit_fails_on_a_finding(tmp_path: Path) -> None:
    """With an OSV that knows of one fault, in one version of one package."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("\n".join(f"{name}==1.0 --hash=sha256:{'0' * 64}" for name in ("sound", "unsound")))
    with advisories("unsound") as url:
        status, told = run("deploy/audit.py", "--osv-url", url, requirements)
        assert status == 1
        assert "unsound" in told
        assert "PYSEC-2026-1" in told
        assert "sound" not in told.split()


@contextmanager
def advisories(unsound: str) -> Iterator[str]:
    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
            known = {"id": "PYSEC-2026-1", "modified": "2026-01-01T00:00:00Z", "details": "A fault.", "affected": []}
            found = asked.get("package", {}).get("name") == unsound
            body = json.dumps({"vulns": [known]} if found else {}).encode()
            self.send_response(200 if "package" in asked else 400)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query"
        finally:
            server.shutdown()
