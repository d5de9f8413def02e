"""docs/scenarios.md: what it shows works."""

import re
import shlex
from pathlib import Path

import pytest

from tests.service.cli.test_cli import steersman
from tests.serving import Running

PAGE = (Path(__file__).parents[3] / "docs" / "scenarios.md").read_text("utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


def test_its_commands(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("home.json").write_text(block("json"))
    printed = []
    for line in block("sh").splitlines():
        name, *words = shlex.split(line)
        assert name == "steersman"
        done = steersman(*words, "--address", f"127.0.0.1:{server.ports.grpc}")
        assert done.exit_code == 0, done.output
        printed.append(done.stdout)
    assert re.search(r"1 +│ 127 +│", printed[1])
    assert [line.split("=")[0] for line in printed[1].splitlines()[-2:]] == ["genres:Horror ", "genres:War "]
    assert "A scary row" in printed[2]
    assert "ada" in printed[4]


def test_its_program(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    program = block("python").replace("127.0.0.1:50051", f"127.0.0.1:{server.ports.grpc}").replace('"ada"', '"page"')
    exec(compile(program, "scenarios.md", "exec"), {})
    lists, kept = capsys.readouterr().out.splitlines()
    before, after = re.findall(r"\[(.*?)\]", lists)
    assert before.split(", ")[0] not in after
    assert kept == f"[{before.split(', ')[0]}] 3"
