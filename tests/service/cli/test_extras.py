"""Every command with the packages of one extra alone: all others of this environment are hidden from it."""

import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from steersman_service.cli import main as cli
from tests.serving import Running

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
COMMANDS = {
    "recommend": "client",
    "features": "client",
    "gateway": "http",
    "loadtest": "loadtest",
    "serve": "service",
    "bundle verify .": "service",
    "bundle pull s3://models/x": "service",
    "train": "training",
    "evaluate": "training",
    "sweep": "training",
}
OWN = {"steersman", "steersman_client", "steersman_loadtest", "steersman_service", "steersman_training"}
HEAVY = {"faiss", "numpy", "onnxruntime", "polars", "pyarrow", "torch"}
# Hides packages before anything is imported, and tells in the end what was.
HIDING = """
import atexit, importlib.abc, sys
hidden = set(sys.argv.pop(1).split(","))
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
atexit.register(lambda: print("imported:", *{name.partition(".")[0] for name in sys.modules}, file=sys.stderr))
from steersman_service.cli.main import main
main()
"""


@cache
def hidden(extra: str) -> str:
    """Names, as imported, of the packages that neither a bare install nor `extra` brings."""
    own = [*PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] if extra != "bare" else ())]
    brought = with_dependencies([Requirement(text) for text in own])
    everything = packages_distributions()
    return ",".join(
        package
        for package, names in everything.items()
        if package not in OWN and not brought & {canonicalize_name(name) for name in names}
    )


def with_dependencies(waiting: list[Requirement]) -> set[str]:
    """Names of the distributions that these requirements bring."""
    brought, seen = set[str](), set[tuple[str, str]]()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        brought.add(name)
        for extra in {"", *requirement.extras} - {extra for seen_name, extra in seen if seen_name == name}:
            seen.add((name, extra))
            further = [Requirement(text) for text in requires(name, extra)]
            waiting += [each for each in further if each.marker is None or each.marker.evaluate({"extra": extra})]
    return brought


def requires(name: str, extra: str) -> list[str]:
    if name == "steersman":
        return list(PROJECT["optional-dependencies"].get(extra, ()))
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:  # of another platform
        return []


def steersman(extra: str, *arguments: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """The run, and the packages that it had imported in the end."""
    command = [sys.executable, "-c", HIDING, hidden(extra), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={"COLUMNS": "200"})
    ran.stderr, _, imported = ran.stderr.rpartition("imported: ")
    return ran, set(imported.split())


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        *((command, "bare") for command in COMMANDS),
        *(
            ("recommend", "training"),
            ("loadtest", "service"),
            ("gateway", "service"),
            ("serve", "http"),
            ("train", "service"),
        ),
    ],
)
def test_a_command_without_its_extra_says_so_in_a_line(command: str, extra: str) -> None:
    ran, _ = steersman(extra, *command.split())
    assert ran.returncode == 1
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert re.match(r"steersman (bundle )?\w+: needs ", line)
    assert command.startswith(line.removeprefix("steersman ").partition(":")[0])
    wanted = COMMANDS[command]
    assert line.endswith(f", of the extra {wanted}: pip install 'steersman[{wanted}]'")


@pytest.mark.parametrize("extra", ["bare", "service", "training"])  # what brings most: neither may import it for this
def test_version_and_help_need_no_extra(extra: str) -> None:
    ran, imported = steersman(extra, "--version")
    assert re.fullmatch(r"steersman \d+\.\d+\.\d+ \(Python 3\.\d+\.\d+\)\n", ran.stdout)
    assert not imported & HEAVY
    listed, _ = steersman(extra, "--help")
    assert listed.returncode == 0
    assert all(command.split()[0] in listed.stdout for command in COMMANDS)


def test_a_client_asks_with_its_extra_alone(server: Running) -> None:
    """And imports nothing of the server's, where that is installed, too."""
    address = ("--address", f"127.0.0.1:{server.ports.grpc}")
    calls = (("recommend", "--control", "f0:add=0.5"), ("features",), ("features", "--concepts"))
    for extra in ("client", "service"):
        for call in calls:
            ran, imported = steersman(extra, *call, *address)
            assert ran.returncode == 0, ran.stderr
            assert "grpc" in imported
            assert not imported & HEAVY


def test_a_load_test_runs_with_its_extra_alone(server: Running, tmp_path: Path) -> None:
    address = ("--address", f"127.0.0.1:{server.ports.grpc}")
    ran, _ = steersman(
        "loadtest", "loadtest", "--rate", "10", "--seconds", "1", "--plot", str(tmp_path / "a.png"), *address
    )
    assert "Audit:" in ran.stdout, ran.stderr
    assert (tmp_path / "a.png").exists()


@pytest.mark.parametrize(("command", "extra"), [("train", "training"), ("serve", "service")])
def test_with_its_extra_alone_a_command_gets_as_far_as_its_input(command: str, extra: str, tmp_path: Path) -> None:
    """All that it imports before it reads anything is there."""
    nothing = str(tmp_path / "nothing.csv")
    reads = (
        ["--port", "0", "--metrics-port", "0", "--data", str(tmp_path), "--bundle"]
        if command == "serve"
        else ["--data"]
    )
    ran, _ = steersman(extra, command, *reads, nothing)
    assert ran.returncode == 1
    assert nothing in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_gateway_listens_with_its_extra_alone() -> None:
    ran, imported = steersman("http", "gateway", "--insecure", "--host", "nowhere.invalid")
    assert ran.returncode == 1
    assert "HTTP cannot listen on nowhere.invalid:8080" in ran.stderr
    assert "connectrpc" in imported
    assert not imported & HEAVY


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ModuleNotFoundError("no", name="their_thing"), "needs their_thing, which is not installed"),
        (
            ImportError("lib.so:\nnot there", name="their_thing"),
            "their_thing is installed, but cannot be imported: lib.so: not there",
        ),
    ],
)
def test_what_a_command_of_another_package_misses(error: ImportError, said: str) -> None:
    assert cli._need(EntryPoint("theirs", "their_package:run", cli.GROUP), error) == said


def test_what_is_wrong_with_steersman_itself_is_not_called_an_extra() -> None:
    with pytest.raises(ModuleNotFoundError):
        cli._need(cli.OWN[0], ModuleNotFoundError("no", name="steersman_service.gone"))
