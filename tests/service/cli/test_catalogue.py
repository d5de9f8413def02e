"""The catalogue on the command line, and controls on items and words."""

import json

import pytest

from tests.service.cli.test_cli import address, steersman
from tests.serving import Running

__all__ = ["address"]


def test_attributes_and_their_values(address: tuple[str, str]) -> None:
    listed = steersman("items", "--attributes", *address)
    assert listed.exit_code == 0, listed.output
    assert "Horror" in listed.stdout
    assert "1950 to 2009, mean 1979.5" in listed.stdout
    found = steersman("items", "--attributes", "horr", "--json", *address)
    values = {one["name"]: one.get("values", []) for one in json.loads(found.stdout)["attributes"]}
    assert [value["value"] for value in values["genres"]] == ["Horror"]


def test_concepts_are_found_by_what_people_call_them(address: tuple[str, str]) -> None:
    found = steersman("features", "--concepts", "--text", "newer", *address)
    assert found.exit_code == 0, found.output
    assert "│ year    │ Newer (year) │" in found.stdout


def test_features_by_items_and_by_likeness(address: tuple[str, str]) -> None:
    by_items = steersman("features", "--items", "Film 2, Film 6", "--all", *address)
    assert by_items.exit_code == 0, by_items.output
    assert "Horror" in by_items.stdout
    near = steersman("features", "--like", "genres:Horror", *address)
    assert near.exit_code == 0, near.output
    assert "+1.00" in near.stdout
    assert steersman("features", "--like", "f64", "--json", *address).exit_code == 0
    wrong = steersman("features", "--like", "f64=1", *address)
    assert wrong.exit_code == 2
    assert "is no feature" in wrong.stderr


@pytest.mark.parametrize("typed", ["Film 2, Film 6=0.8", "102,106=0.8"])
def test_more_like_items(address: tuple[str, str], typed: str) -> None:
    steered = steersman("recommend", "--history", "100", "--like", typed, "--words", "war=-0.5", *address)
    assert steered.exit_code == 0, steered.output
    assert "like 102, 106 = 0.8: " in steered.stdout
    assert "war = -0.5: " in steered.stdout


def test_words_without_a_strength_are_of_strength_one(address: tuple[str, str], server: Running) -> None:
    steered = steersman("recommend", "--history", "100", "--words", "gory horror", *address)
    assert "gory horror = 1: " in steered.stdout
    assert "warning: unknown words, left out: 'gory'" in steered.stdout
