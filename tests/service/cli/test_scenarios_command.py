"""The command `scenarios`, against a real server."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from steersman.v1 import scenario_service_pb2 as pb
from steersman_service.api import replaying
from steersman_service.cli.client import Client
from steersman_service.errors import QueueFull
from steersman_service.scheduling.batcher import Batcher
from tests.service.cli.test_cli import steersman
from tests.serving import Running, serving, settings_for

CONTROL = {"concept": "genres:Horror", "operation": "OPERATION_ADD", "strength": 0.5}


@pytest.fixture
def address(server: Running) -> tuple[str, str]:
    return "--address", f"127.0.0.1:{server.ports.grpc}"


def test_a_scenario_from_file_to_recommendation(address: tuple[str, str], tmp_path: Path) -> None:
    name, file = f"cli-{uuid4()}", tmp_path / "home.json"
    file.write_text(json.dumps({"name": name, "description": "[bold]", "controls": [CONTROL]}))
    done = steersman("scenarios", "put", str(file), "--author", "ada", *address)
    assert done.exit_code == 0, done.output
    assert f"{name}: version 1" in done.stdout
    done = steersman("recommend", "--scenario", name, "-k", "3", "--json", *address)
    answer = json.loads(done.stdout)
    assert (answer["scenario_version"], answer["applied_controls"][0]["source"]) == ("1", "CONTROL_SOURCE_SCENARIO")
    # What show prints is what put takes, with the version that was seen.
    shown = steersman("scenarios", "show", name, *address).stdout
    file.write_text(shown)
    assert "version 2" in steersman("scenarios", "put", str(file), *address).stdout
    late = steersman("scenarios", "put", str(file), *address)
    assert late.exit_code == 1
    assert "ABORTED" in late.stderr
    assert "version 3" in steersman("scenarios", "put", str(file), "--force", *address).stdout
    listed = steersman("scenarios", "list", "--limit", "1000", *address).stdout
    (row,) = [line for line in listed.splitlines() if name in line]
    assert "[bold]" in row
    assert "3" in row
    wrong = steersman("scenarios", "delete", name, "--version", "2", *address)
    assert (wrong.exit_code, "ABORTED" in wrong.stderr) == (1, True)
    assert "deleted" in steersman("scenarios", "delete", name, *address).stdout
    assert "there was none" in steersman("scenarios", "delete", name, *address).stdout
    told = steersman("scenarios", "changes", name, *address).stdout
    assert [line.count("delete") for line in told.splitlines() if name in line] == [1, 0, 0, 0]
    assert (
        json.loads(steersman("scenarios", "changes", name, "--json", *address).stdout)["changes"][-1]["author"] == "ada"
    )
    new = tmp_path / "new.json"
    new.write_text(json.dumps({"name": name}))
    assert "version 1" in steersman("scenarios", "put", str(new), "--force", *address).stdout
    assert json.loads(steersman("scenarios", "list", "--json", *address).stdout)["scenarios"]


def test_mistakes_are_explained(address: tuple[str, str], tmp_path: Path) -> None:
    for words, why in (
        (("show",), "name of a scenario is missing"),
        (("put",), "JSON file is missing"),
        (("delete",), "is missing"),
        (("list", "home"), "takes no name"),
        (("put", str(tmp_path / "none.json")), "is no scenario in JSON"),
    ):
        done = steersman("scenarios", *words, *address)
        assert done.exit_code == 2
        assert why in done.stderr
    for content, why in (("[]", "no scenario"), ("{", "no scenario"), ('{"nam": "x"}', "nam")):
        file = tmp_path / "wrong.json"
        file.write_text(content)
        done = steersman("scenarios", "put", str(file), *address)
        assert done.exit_code == 2
        assert why in done.stderr
    file.write_text(json.dumps({"name": "x", "controls": [{**CONTROL, "concept": "genres:Horor"}]}))
    done = steersman("scenarios", "put", str(file), *address)
    assert done.exit_code == 1
    assert "did you mean genres:Horror" in done.stderr
    done = steersman("recommend", "--scenario", "nowhere", *address)
    assert "scenarios list" in done.stderr
    assert steersman("scenarios", "show", "nowhere", *address).exit_code == 1


@pytest.fixture
def alone(bundle_dir: Path, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The address of a server whose store has no scenarios of other tests, which may be broken."""
    with serving(settings_for(tmp_path / "server", bundle_dir)) as server:
        yield "--address", f"127.0.0.1:{server.ports.grpc}"


def test_a_replay_is_a_table_and_fails_where_a_scenario_moved(
    alone: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "MOST_PUT_SECONDS", 120.0)
    name, file, address = f"cli-{uuid4()}", tmp_path / "home.json", (*alone, "--timeout", "240")
    file.write_text(json.dumps({"name": name, "controls": [CONTROL]}))
    assert "could not be measured" not in steersman("scenarios", "put", str(file), *address).stderr
    done = steersman("scenarios", "replay", name, *address)
    assert done.exit_code == 0, done.output
    (first, second) = [line for line in done.stdout.splitlines() if "overlap" in line or "genres:Horror" in line]
    assert name in first
    assert "nothing to compare" in first
    assert name not in second
    everything = steersman("scenarios", "replay", *address)
    assert (everything.exit_code, everything.stdout) == (0, done.stdout), everything.output
    unknown = steersman("scenarios", "replay", "nowhere", *address)
    assert (unknown.exit_code, "names[0]: there is no scenario" in unknown.stderr) == (1, True)

    # The same, as a server with another bundle answers it.
    effect = pb.ReplayedEffect(name="overlap", before=0.5, least=0.4, most=0.6, now=0.9, outside=True)
    moved = pb.ScenarioReplay(name="a", version=2, status=pb.REPLAY_STATUS_MOVED, effects=[effect], histories=64)
    broken = pb.ScenarioReplay(name="b", status=pb.REPLAY_STATUS_BROKEN, problem="scenario.controls[0].concept: gone")
    held = pb.ScenarioReplay(name="c", status=pb.REPLAY_STATUS_HELD)
    for replays, code in (([moved, held], 1), ([broken], 1), ([held], 0)):
        answer = pb.ReplayScenariosResponse(replays=replays, bundle_version="abc")
        monkeypatch.setattr(Client, "replays", lambda client, names, answer=answer: answer)
        done = steersman("scenarios", "replay", *address)
        assert done.exit_code == code, done.output
        if replays[0] is moved:
            assert "1 of 2 scenarios do something else with bundle abc" in done.stderr
            assert "0.40 to 0.60" in done.stdout
            assert "0.90 outside" in done.stdout
        if replays[0] is broken:
            assert "b: scenario.controls[0].concept: gone" in done.stderr
        done = steersman("scenarios", "replay", "--json", *address)
        assert (done.exit_code, len(json.loads(done.stdout)["replays"])) == (code, len(replays))


def test_a_put_that_was_not_measured_is_said(
    address: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*arguments: object, **named: object) -> None:
        raise QueueFull("the queue is full")

    monkeypatch.setattr(Batcher, "submit", full)
    file = tmp_path / "home.json"
    file.write_text(json.dumps({"name": f"cli-{uuid4()}", "controls": [CONTROL]}))
    done = steersman("scenarios", "put", str(file), *address)
    assert (done.exit_code, "could not be measured" in done.stderr) == (0, True)
