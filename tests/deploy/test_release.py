"""One version everywhere, and each extra is tried by `make release`."""

import importlib.util
import re
import tomllib
from importlib.metadata import version

import steersman_service
from tests.deploy.files import DEPLOY, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_is_one() -> None:
    assert steersman_service.__version__ == version("steersman")
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    (own,) = [package for package in lock["package"] if package["name"] == "steersman"]
    assert own["version"] == PROJECT["version"]
    newest, date = re.findall(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert (newest, len(date)) == (PROJECT["version"], 10)


def test_every_extra_is_tried() -> None:
    spec = importlib.util.spec_from_file_location("release", DEPLOY / "release.py")
    assert spec
    assert spec.loader
    release = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(release)
    tried = {extra for extras in release.CHECKS for extra in extras.split(",") if extra}
    assert tried == set(PROJECT["optional-dependencies"]) - {"dev"}
