"""The command as a person types it, with client processes of its own."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner, Result

from steersman_loadtest import report
from steersman_service.cli.main import make_app
from tests.load.proxy import Proxy
from tests.load.test_checks import dishonest, drop_the_last
from tests.serving import Running

# The names of the JSON: programs that read it rely on them.
NAMES = "schema passed address server histories mix sending canaries known_attribute_values search runs audit"
RUN_NAMES = (
    "name rate seconds began_unix_s sent answered answered_per_second degraded refused errors errors_by_reason"
    " violations violation_examples latency_ms latency_ms_by_kind latency_ms_by_percentile steering trouble_s client series"
)


def loadtest(*arguments: str) -> Result:
    return CliRunner().invoke(make_app(), ["loadtest", *arguments], env={"COLUMNS": "200"})


def test_a_run(server: Running, address: str, data_dir: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "figures.json", tmp_path / "picture.png"
    files = ("--histories", str(data_dir), "--out", str(out), "--plot", str(picture))
    more = ("--processes", "2", "--canary", "0.5", "--users", "5", "--arrivals", "even")
    ran = loadtest("--address", address, "--rate", "40", "--seconds", "2", *files, *more)
    assert ran.exit_code == 0, ran.output
    figures = json.loads(out.read_text())
    assert list(figures) == NAMES.split()
    assert (figures["schema"], figures["passed"]) == (report.SCHEMA, True)
    assert figures["histories"] == {"source": str(data_dir / "interactions.parquet"), "real": True, "users": 160}
    warm_up, run = figures["runs"]
    assert list(run) == RUN_NAMES.split()
    assert (warm_up["name"], run["name"]) == ("warm-up", "run")
    assert (run["sent"], run["answered"], run["errors"], run["refused"]) == (80, 80, 0, 0)
    assert (run["violations"], warm_up["violations"]) == ({}, {})
    assert run["client"]["processes"] == 2
    assert sum(second["sent"] for second in run["series"]) == 80
    assert sum(kind["count"] for kind in run["latency_ms_by_kind"].values()) == run["latency_ms"]["count"] == 80
    assert figures["audit"]["lost"] == figures["audit"]["unread"] == 0
    assert 0 < figures["audit"]["sessions"] < figures["audit"]["acknowledged"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "Violations: none." in ran.stdout
    assert "run at 40/s for 2 s" in ran.stderr
    assert "lost 0" in ran.stdout
    assert "  columns    user: user_id; item: item_id; time: position" in ran.stderr


def test_wrong_answers_fail_the_test(proxy: Proxy) -> None:
    proxy.answers = dishonest(drop_the_last)
    ran = loadtest("--address", proxy.address, "--rate", "40", "--seconds", "1", "--no-audit", "--json")
    assert ran.exit_code == 1
    figures = json.loads(ran.stdout)
    assert not figures["passed"]
    assert figures["runs"][-1]["violations"]["count"] > 5
    assert "items of" in figures["runs"][-1]["violation_examples"][0]
    assert figures["audit"] is None
    assert not figures["histories"]["real"]


def test_a_search_that_finds_nothing(address: str, data_dir: Path) -> None:
    """No server answers in a tenth of a millisecond."""
    short = ("--rate", "1", "--p99-ms", "0.1", "--probe-seconds", "1", "--hold-seconds", "1", "--then", "0.7")
    ran = loadtest("--address", address, "--histories", str(data_dir), "--search", *short, "--canary", "0")
    assert ran.exit_code == 1
    assert "No rate was held for 1 s, no error, p99 below 0.1 ms" in ran.stdout


def test_a_search_and_a_run_after_it(address: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rate up to the most is held, however slow the machine: calls have a minute."""
    monkeypatch.setattr("steersman_loadtest.rate_search.MOST_RATE", 40)
    wanted = ("--rate", "20", "--p99-ms", "60000", "--probe-seconds", "1", "--hold-seconds", "2", "--seconds", "1")
    options = ("--histories", str(data_dir), "--json", "--timeout", "60")
    ran = loadtest("--address", address, "--search", "--then", "0.5", *wanted, *options)
    figures = json.loads(ran.stdout)
    assert figures["search"]["rate"] == 40
    assert [probe["seconds"] for probe in figures["search"]["probes"]] == [1, 1, 2]
    assert [(run["name"], run["rate"]) for run in figures["runs"]] == [
        ("probe", 20),
        ("probe", 40),
        ("hold", 40),
        ("50% of saturation", 20),
    ]
    assert ran.exit_code == 0


def test_a_client_that_cannot_keep_up_gets_another_beside_it(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All calls count as late and all clients as busy here."""
    monkeypatch.setattr("steersman_loadtest.run_statistics.LATE_SECONDS", -1.0)
    monkeypatch.setattr("steersman_loadtest.run_statistics.BUSY", 0.0)
    ran = loadtest("--address", address, "--rate", "20", "--seconds", "1", "--most-processes", "2", "--no-audit")
    assert "1 client process(es) could not keep up: one more" in ran.stderr
    assert "Clients: 2 process(es)" in ran.stdout
    assert "the client was the limit" in ran.stdout
    assert "These are no real histories" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--rate", "0"), "--rate"),
        (("--rate", "nan"), "--rate"),
        (("--rate", "-5"), "--rate"),
        (("--seconds", "0"), "--seconds"),
        (("--session", "1.5"), "--session"),
        (("--then", "0.7"), "goes only with --search"),
        (("--processes", "0"), "--processes"),
        (("--plot", "a.docx"), "must end in .png"),
        (("--plot", "/no/such/folder/a.png"), "there is no folder /no/such/folder"),
        (("--out", "/no/such/folder/a.json"), "there is no folder /no/such/folder"),
    ],
)
def test_arguments_that_make_no_sense(arguments: tuple[str, ...], why: str) -> None:
    ran = loadtest("--address", "127.0.0.1:1", *arguments)
    assert ran.exit_code == 2
    assert why in ran.stderr


@pytest.mark.parametrize(("package", "options"), [("hdrh", []), ("matplotlib", ["--plot", "a.png"])])
def test_without_its_extra_it_says_what_to_install(package: str, options: list[str]) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from steersman_service.cli.main import main; main()"
    command = [sys.executable, "-c", code, "loadtest", *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "pip install 'steersman[loadtest]'" in ran.stderr


def test_no_server_answers() -> None:
    ran = loadtest("--address", "127.0.0.1:1")
    assert ran.exit_code == 1
    assert "No server answers at 127.0.0.1:1. Start one: steersman serve" in ran.stderr


def test_histories_of_other_items(address: str, tmp_path: Path) -> None:
    pl.DataFrame({"user": [1, 1], "item": ["a", "b"], "position": [0, 1]}).write_parquet(tmp_path / "a.parquet")
    ran = loadtest("--address", address, "--histories", str(tmp_path / "a.parquet"))
    assert ran.exit_code == 1
    assert "does not know; give the interactions that it was trained on" in ran.stderr


def test_columns_without_histories() -> None:
    ran = loadtest("--address", "127.0.0.1:1", "--user-column", "who")
    assert ran.exit_code == 2
    assert "columns are those of --histories" in ran.stderr


def test_the_error_names_the_flag_of_a_column(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("who,item,time\n1,2,3\n")
    ran = loadtest("--histories", str(tmp_path / "a.csv"))
    assert ran.exit_code == 1
    assert "it has who, item, time. Name the right one: --user-column" in ran.stderr
    again = loadtest("--histories", str(tmp_path / "a.csv"), "--user-column", "who")
    assert "no user with two events" in again.stderr


def test_more_items_than_the_server_gives(address: str) -> None:
    assert "than the 1000 that the server gives" in loadtest("--address", address, "-k", "999").stderr
