"""Turns of two servers, and what is made of them."""

import pytest

from bench.doors import Server, Turn, _pairs, _print
from steersman_client.credentials import Access

PLAIN, OTHER = Server("plain", 0, Access()), Server("other", 0, Access())


def test_differences_are_of_pairs_and_the_first_pair_warms_up(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[str] = []

    def turn(server: Server) -> Turn:
        """The machine gets slower from turn to turn, and the first one is far off."""
        asked.append(server.address)
        drift = 1000.0 if len(asked) <= 2 else 10.0 * ((len(asked) - 1) // 2)
        return Turn(drift + (5.0 if server is OTHER else 0.0), 1.0)

    pairs = _pairs(PLAIN, OTHER, 4, turn)
    assert asked == ["other", "plain", "plain", "other"] * 2 + ["other", "plain"]
    _print("key", "a call", pairs)
    time, processor = capsys.readouterr().out.splitlines()
    assert time.strip() == "key  a call, time: 30 us beside 25; +5 us more (+5 to +5), 4 pairs"
    assert "+0 us more" in processor
