"""What is printed can be used, and what there is can be typed, whatever its name."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from steersman_service.cli.main import make_app
from tests.service.cli.names import LONG_ID, with_odd_names
from tests.serving import Running, serving, settings_for


@pytest.fixture(scope="module")
def odd(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("odd")
    with serving(settings_for(folder, with_odd_names(bundle_dir, folder))) as running:
        yield running


@pytest.fixture
def address(odd: Running) -> tuple[str, str]:
    return "--address", f"127.0.0.1:{odd.ports.grpc}"


def steersman(*arguments: str) -> Result:
    return CliRunner().invoke(make_app(), arguments, env={"COLUMNS": "40"})


def ids(*arguments: str) -> list[str]:
    """Of the answer as JSON."""
    done = steersman(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return [item["item_id"] for item in json.loads(done.stdout)["items"]]


def test_titles_and_ids_are_text_and_whole(address: tuple[str, str]) -> None:
    for command in (("recommend", "-k", "60"), ("items", "--limit", "60")):
        done = steersman(*command, *address)
        assert done.exit_code == 0, done.output
        for text in ("Song [live]", "A [/remix] B", ":books: tomorrow", LONG_ID, "A very long title " * 10):
            assert text.strip() in done.stdout
        assert r"red \x1b[31malert\x1b[0m\nnext" in done.stdout
        assert r"\u202eevil" in done.stdout
        assert not {"\x1b", "\u202e"} & {*done.output}
        assert max(map(len, done.stdout.splitlines())) > 180  # a line a row
    listed = steersman("items", "--limit", "60", "--json", *address).stdout
    titles = [item["title"] for item in json.loads(listed)["items"]]
    assert {"red \x1b[31malert\x1b[0m\nnext", "\u202eevil"} <= {*titles}
    assert "\u202e" not in listed


def test_concepts_are_printed_as_they_are_typed(address: tuple[str, str]) -> None:
    listed = steersman("features", "--concepts", *address)
    for name in ("f12=", "f12", "category:books:fiction", "[b]=x"):
        assert f"│ {name} " in listed.stdout
        steered = steersman("recommend", "--control", f"{name}=0.5", *address)
        assert f"{name} = 0.5:" in steered.stdout, steered.output
    assert "f12:add=0.5" in steersman("recommend", "--control", "f12=0.5", *address).stderr
    assert "feature 12 = 0.5" in steersman("recommend", "--control", "f12:add=0.5", *address).stdout
    assert "f12 = 0.5" in steersman("recommend", "--control", '"f12"=0.5', *address).stdout


def test_names_of_attributes_may_hold_what_parts_them_from_values(address: tuple[str, str]) -> None:
    tilted = steersman("recommend", "--tilt", "genre: main:Horror=1", "--tilt", "a=b=0.5", *address)
    assert "tilt genre: main:Horror = 1" in tilted.stdout, tilted.output
    assert "tilt a=b = 0.5" in tilted.stdout
    quoted = steersman("recommend", "--tilt", '"genre: main":Horror=1', *address)
    assert "tilt genre: main:Horror = 1" in quoted.stdout, quoted.output
    assert len(ids("recommend", "--where", "a=b=1960", "--where", '"genre: main"=Horror', *address)) <= 1
    assert len(ids("recommend", "--where", "a=b=1960", *address)) == 1


@pytest.mark.parametrize("typed", ["0,1", '"0,1"', "102,0,1", '102,"0,1"', "Song [live]"])
def test_ids_may_hold_commas(address: tuple[str, str], typed: str) -> None:
    assert "0,1" not in ids("recommend", "-k", "60", "--history", typed, *address)
    assert "0,1" in ids("recommend", "-k", "60", "--history", "102", *address)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("star wars", "105"),
        ("alien", "107"),
        ("Crouching Tiger, Hidden Dragon", "109"),
        ("102,Crouching Tiger, Hidden Dragon", "109"),
        ("amelie", "110"),
        ("Rebels", "106"),
    ],
)
def test_a_title_is_found_and_said(address: tuple[str, str], typed: str, meant: str) -> None:
    done = steersman("recommend", "--history", typed, "-k", "60", "--json", *address)
    assert meant not in [item["item_id"] for item in json.loads(done.stdout)["items"]]
    assert f"taken for {meant}," in done.stderr


@pytest.mark.parametrize("typed", ["Twin", "terminator"])
def test_an_ambiguous_title_lists_the_candidates(address: tuple[str, str], typed: str) -> None:
    done = steersman("recommend", "--history", typed, *address)
    assert done.exit_code == 1
    assert done.stdout == ""
    pair = ("111", "112") if typed == "Twin" else ("113", "114")
    assert all(item_id in done.stderr for item_id in pair)


def test_unknown_items_are_named(address: tuple[str, str]) -> None:
    for option in ("--history", "--allow", "--deny"):
        some = steersman("recommend", option, "102,nosuch,99999", *address)
        assert some.exit_code == 0
        assert f"{option}: 2 unknown of 3 items, without effect on the answer: 'nosuch', '99999'" in some.stderr
        none = steersman("recommend", option, "nosuch", *address)
        assert (none.exit_code, none.stdout) == (1, "")
        assert "steersman items" in none.stderr


def test_a_comparison_says_what_entered_left_and_moved(address: tuple[str, str]) -> None:
    arguments = ("recommend", "--history", "102", "-k", "5", "--tilt", "genre: main:Horror=3", "--compare", *address)
    told = json.loads(steersman(*arguments, "--json").stdout)
    plain, steered = ([item["item_id"] for item in told[name]["items"]] for name in ("plain", "steered"))
    assert plain == ids("recommend", "--history", "102", "-k", "5", *address)
    assert told["entered"] == [item_id for item_id in steered if item_id not in plain] != []
    assert told["left"] == [item_id for item_id in plain if item_id not in steered]
    for move in told["moved"]:
        assert (plain[move["from"] - 1], steered[move["to"] - 1]) == (move["item_id"],) * 2
    shown = steersman(*arguments).stdout
    assert shown.count("│ entered") == len(told["entered"])
    nothing = steersman("recommend", "--compare", *address)
    assert (nothing.exit_code, nothing.stdout) == (2, "")


def test_the_answer_alone_is_on_standard_output(address: tuple[str, str]) -> None:
    for command in (("recommend",), ("features",), ("features", "--concepts"), ("items", "star")):
        assert "Next: " in steersman(*command, *address).stderr
        assert "Next: " not in steersman(*command, *address).stdout
        json.loads(steersman(*command, "--json", *address).stdout)


def test_any_encoding_of_the_output_will_do(address: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "steersman_service", "items", "amelie", *address]
    done = subprocess.run(
        command, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert r"Am\xe9lie" in done.stdout
