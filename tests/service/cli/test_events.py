"""Events of a session on the command line: consumed, disliked, hidden and shown items."""

import json
from uuid import uuid4

import pytest

from steersman.v1.session_service_pb2 import GetSessionRequest, Session
from steersman_service.bundle.items import Items
from tests.service.api.test_event_kinds import feedback
from tests.service.cli.test_cli import address, steersman
from tests.serving import Running

__all__ = ["address"]
OPTIONS = ("--new", "--dislike", "--hide", "--shown")


def kept(server: Running, session_id: str) -> Session:
    return server.session.GetSession(GetSessionRequest(session_id=session_id)).session


def test_each_option_appends_events_of_its_kind(server: Running, address: tuple[str, str], items: Items) -> None:
    session_id, ids = str(uuid4()), items.ids
    shown = feedback(server, "shown")
    events = (
        "--new",
        ",".join(ids[:3]),
        "--dislike",
        f"{ids[3]},{ids[4]}",
        "--hide",
        items.titles[5],
        "--shown",
        ids[6],
    )
    told = steersman("recommend", "--session", session_id, *events, "-k", "60", "--json", *address)
    assert told.exit_code == 0, told.output
    assert f"--hide {items.titles[5]}: taken for {ids[5]}" in told.stderr
    answer = json.loads(told.stdout)
    assert {item["item_id"] for item in answer["items"]} == {*ids} - {*ids[:6]}
    assert [each["source"] for each in answer["applied_controls"]] == ["CONTROL_SOURCE_DISLIKED"]
    session = kept(server, session_id)
    assert (list(session.item_ids), session.total_events) == (ids[:3], 3)
    assert (list(session.disliked_item_ids), list(session.hidden_item_ids)) == (ids[3:5], [ids[5]])
    assert feedback(server, "shown") == shown + 1


def test_what_was_just_consumed_may_be_disliked(server: Running, address: tuple[str, str], items: Items) -> None:
    session_id, item_id = str(uuid4()), items.ids[0]
    told = steersman("recommend", "--session", session_id, "--dislike", item_id, "--new", item_id, *address)
    assert told.exit_code == 0, told.output
    session = kept(server, session_id)
    assert (list(session.item_ids), list(session.disliked_item_ids)) == ([item_id], [item_id])


def test_a_comparison_appends_events_once(server: Running, address: tuple[str, str], items: Items) -> None:
    session_id = str(uuid4())
    hidden = feedback(server, "hidden")
    compared = ("--compare", "--control", "genres:Horror=0.5", "--hide", items.ids[0])
    told = steersman("recommend", "--session", session_id, *compared, *address)
    assert told.exit_code == 0, told.output
    assert feedback(server, "hidden") == hidden + 1


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("beside", [(), ("--history", "101"), ("--session", "")])
def test_events_need_a_session(address: tuple[str, str], option: str, beside: tuple[str, ...]) -> None:
    failed = steersman("recommend", option, "100", *beside, *address)
    assert (failed.exit_code, failed.stdout) == (2, "")
    assert f"{option}: " in failed.stderr
    assert "add --session ID" in failed.stderr


@pytest.mark.parametrize("option", OPTIONS)
def test_unknown_items_are_named_with_their_option(server: Running, address: tuple[str, str], option: str) -> None:
    session_id = str(uuid4())
    failed = steersman("recommend", "--session", session_id, option, "nosuch", *address)
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert f"{option}: the server's bundle has no item 'nosuch'" in failed.stderr
    assert "steersman items" in failed.stderr
    some = steersman("recommend", "--session", session_id, option, "100,nosuch", *address)
    assert some.exit_code == 0, some.output
    assert f"{option}: 1 unknown of 2 items, without effect on the answer: 'nosuch'" in some.stderr
    assert kept(server, session_id).version == 1
