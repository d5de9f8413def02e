"""A bundle in this process: where it differs from a server."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steersman_client import CallError, LocalClient, Request, load
from steersman_service.errors import StartupError

HISTORY = ["101", "102", "103"]


def own_threads() -> int:
    return sum(thread.name == "steersman" for thread in threading.enumerate())


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.recommend(session_id="ada"),
        lambda c: c.recommend(HISTORY, scenario="home"),
        lambda c: c.batch_recommend([Request(HISTORY), Request(session_id="ada")]),
        lambda c: c.explain(session_id="ada"),
        lambda c: c.session("ada"),
        lambda c: c.append_events("ada", ["101"]),
        lambda c: [*c.scenarios()],
    ],
)
def test_what_a_server_keeps_is_refused_with_the_remedy(local: LocalClient, call: Callable[[Any], Any]) -> None:
    with pytest.raises(CallError, match=r"start one \(steersman serve\) and use Client") as caught:
        call(local)
    assert caught.value.reason == "NEEDS_SERVER"


async def test_it_works_where_an_event_loop_runs(local: LocalClient) -> None:
    """As in a notebook."""
    assert asyncio.get_running_loop().is_running()
    assert local.recommend(HISTORY).items


def test_threads_may_share_it(local: LocalClient) -> None:
    wanted, found = local.recommend(HISTORY).item_ids, []
    threads = [threading.Thread(target=lambda: found.append(local.recommend(HISTORY).item_ids)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 8


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    before = own_threads()
    with pytest.raises(StartupError):
        load(tmp_path)
    assert own_threads() == before


def test_closed(bundle_dir: Path) -> None:
    before = own_threads()
    with load(bundle_dir) as local:
        local.model_info()
        assert own_threads() == before + 1
    local.close()
    assert own_threads() == before
    with pytest.raises(ValueError, match="load the bundle again"):
        local.model_info()


def test_without_the_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "steersman_service.settings", None)
    with pytest.raises(ImportError, match=r"pip install 'steersman\[service\]'"):
        load(tmp_path)
