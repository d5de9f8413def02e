"""Scenarios replayed with another bundle than the one under which they were put, over gRPC."""

import asyncio
import json
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control, FeatureRef, Goal, ItemSet, ShareGoal
from steersman.v1.model_service_pb2 import GetModelInfoRequest
from steersman.v1.recommendation_service_pb2 import (
    Composition,
    Filters,
    History,
    LeastShare,
    RecommendRequest,
)
from steersman.v1.scenario_service_pb2 import (
    REPLAY_STATUS_BROKEN,
    REPLAY_STATUS_HELD,
    REPLAY_STATUS_MOVED,
    REPLAY_STATUS_NOTHING_TO_COMPARE,
    DeleteScenarioRequest,
    GetScenarioRequest,
    PutScenarioRequest,
    PutScenarioResponse,
    ReplayScenariosRequest,
    ReplayScenariosResponse,
    Scenario,
    ScenarioReplay,
)
from steersman_service.api import replay_watch, replaying
from steersman_service.bundle.bundle import load_bundle
from steersman_service.bundle.histories import sample_histories
from steersman_service.bundle.items import Categories, Items
from steersman_service.errors import QueueFull, StartupError
from steersman_service.scheduling.batcher import Batcher
from steersman_service.sessions.valkey import EmbeddedValkey
from tests.service.bundle.test_bundle import resign
from tests.serving import Running, failure, serving, settings_for

HORROR = Control(concept="genres:Horror", operation=OPERATION_ADD, strength=4.0)
STATUSES = {"held": 0, "moved": 0, "broken": 0, "nothing_to_compare": 0}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a store that outlives the servers."""
    store = EmbeddedValkey.start(tmp_path_factory.mktemp("valkey"))
    yield store.url
    store.stop()


@pytest.fixture(autouse=True)
def _empty(url: str) -> Iterator[None]:
    yield

    async def clear() -> None:
        from redis.asyncio import Redis

        async with Redis.from_url(url) as redis:
            await redis.flushall()

    asyncio.run(clear())


def changed(bundle_dir: Path, out: Path, table: str, change: Any) -> Path:
    """A bundle like this one, but for a table. Of an older format: in later ones concepts have to be what their graph does."""
    folder = Path(shutil.copytree(bundle_dir, out / "changed"))
    pq.write_table(change(pq.read_table(folder / table)), folder / table)
    resign(folder, lambda manifest: manifest.update(format_minor=3))
    return folder.rename(out / json.loads((folder / "manifest.json").read_text())["version"])


@pytest.fixture(scope="module")
def same(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another version that does the same."""
    titles = tmp_path_factory.mktemp("same")
    return changed(bundle_dir, titles, "items.parquet", lambda table: _put(table, "title", ["Another"] * len(table)))


@pytest.fixture(scope="module")
def turned(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every concept raises other items than those with its value."""
    return changed(bundle_dir, tmp_path_factory.mktemp("turned"), "items.parquet", turned_by_half)


def turned_by_half(table: pa.Table) -> pa.Table:
    """What the items' attributes say has moved by half the table."""
    return _put(table, "genres", np.roll(np.array(table["genres"].to_pylist(), object), len(table) // 2).tolist())


@pytest.fixture(scope="module")
def renamed(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without the concept of horror."""

    def rename(table: pa.Table) -> pa.Table:
        names = [str(name).replace("Horror", "Terror") for name in table["name"].to_pylist()]
        return _put(table, "name", names)

    return changed(bundle_dir, tmp_path_factory.mktemp("renamed"), "concepts.parquet", rename)


def _put(table: pa.Table, column: str, values: list[Any]) -> pa.Table:
    place = table.column_names.index(column)
    return table.set_column(place, column, pa.array(values, table.schema.field(column).type))


@contextmanager
def served(bundle: Path, url: str, data: Path, **changes: Any) -> Iterator[Running]:
    with serving(settings_for(data, bundle, redis_url=url, **{"scenario_replay": "report", **changes})) as running:
        yield running


def put(server: Running, name: str, version: int = 0, **fields: Any) -> PutScenarioResponse:
    return server.scenario.PutScenario(PutScenarioRequest(scenario=Scenario(name=name, version=version, **fields)))


def replay(server: Running, *names: str, **fields: Any) -> ReplayScenariosResponse:
    return server.scenario.ReplayScenarios(ReplayScenariosRequest(names=names, **fields))


def one(server: Running, name: str) -> ScenarioReplay:
    (found,) = replay(server, name).replays
    return found


def every_effect(items: Items) -> dict[str, Any]:
    """A scenario with everything that is counted, and what its effects are called."""
    goal = Goal(share=ShareGoal(at_least=0.5, attribute=AttributeRef(name="genres", value="Comedy")))
    return {
        "controls": [
            HORROR,
            Control(attribute=AttributeRef(name="genres", value="War"), operation=OPERATION_ADD, strength=0.5),
            Control(items=ItemSet(item_ids=[items.ids[3]]), operation=OPERATION_ADD, strength=0.1),
            Control(concept="genres:Crime", operation=OPERATION_ADD, goal=goal),
            Control(concept="genres:Horror", operation=OPERATION_ADD, strength=0.1),
        ],
        "composition": Composition(least_shares=[LeastShare(items=ItemSet(item_ids=items.ids[:5]), share=0.2)]),
        "filters": Filters(deny_item_ids=items.ids[-2:]),
    }


def test_a_put_measures_what_recommend_would_show(bundle_dir: Path, items: Items, url: str, tmp_path: Path) -> None:
    samples = sample_histories(load_bundle(bundle_dir, "onnx"), items, replaying.MOST_HISTORIES)
    histories = [sample.item_ids for sample in samples]
    assert len(histories) > 5
    fields = every_effect(items)
    with served(bundle_dir, url, tmp_path) as server:
        answer = put(server, "home", **fields)
        assert answer.measured_histories == len(histories)
        replayed = one(server, "home")
        lists, plain = [], []
        for history in histories:
            request = RecommendRequest(history=History(item_ids=history), scenario="home", k=10)
            lists.append([item.item_id for item in server.recommendation.Recommend(request).items])
            request = RecommendRequest(history=History(item_ids=history), filters=fields["filters"], k=10)
            plain.append([item.item_id for item in server.recommendation.Recommend(request).items])
    assert (replayed.status, replayed.histories) == (REPLAY_STATUS_NOTHING_TO_COMPARE, len(histories))
    assert (replayed.version, replayed.bundle_version_before) == (1, load_bundle(bundle_dir, "onnx").version)
    column = items.attributes["genres"]
    assert isinstance(column, Categories)
    genres = {name: set(np.array(items.ids)[rows]) for name, rows in column.rows_of.items()}
    shares = {
        "share of genres:Horror": genres["Horror"],
        "share of genres:War": genres["War"],
        "share of controls[2].items": {items.ids[3]},
        "share of genres:Crime": genres["Crime"],
        "share of genres:Comedy": genres["Comedy"],
        "share of least_shares[0].items": set(items.ids[:5]),
    }
    wanted = {"overlap": np.mean([len(set(a) & set(b)) / 10 for a, b in zip(lists, plain, strict=True)])}
    wanted |= {name: np.mean([len(set(a) & members) / 10 for a in lists]) for name, members in shares.items()}
    assert {effect.name: effect.before for effect in replayed.effects} == pytest.approx(wanted)
    assert not any(effect.outside or effect.before != effect.now for effect in replayed.effects)


def test_held_moved_and_broken(
    bundle_dir: Path, same: Path, turned: Path, renamed: Path, url: str, items: Items, tmp_path: Path
) -> None:
    with served(bundle_dir, url, tmp_path / "first") as server:
        put(server, "home", controls=[HORROR])
        put(server, "all", **every_effect(items))
        version = server.model.GetModelInfo(GetModelInfoRequest()).bundle_version
    with served(same, url, tmp_path / "same") as server:
        answer = replay(server)
        assert [(one.name, one.status) for one in answer.replays] == [
            ("all", REPLAY_STATUS_HELD),
            ("home", REPLAY_STATUS_HELD),
        ]
        assert (answer.bundle_version, answer.replays[0].bundle_version_before) == (same.name, version)
        assert all(effect.now == effect.before for one in answer.replays for effect in one.effects)
        assert [len(one.effects) for one in answer.replays] == [7, 2]
    with served(turned, url, tmp_path / "turned") as server:
        moved = one(server, "home")
        overlap, share = moved.effects
        assert (moved.status, overlap.outside, share.outside) == (REPLAY_STATUS_MOVED, False, True)
        assert share.name == "share of genres:Horror"
        assert share.now < share.least <= share.before <= share.most
        # What it does now is what is meant.
        assert put(server, "home", version=1, controls=[HORROR]).measured_histories
        assert one(server, "home").status == REPLAY_STATUS_NOTHING_TO_COMPARE
    with served(renamed, url, tmp_path / "renamed") as server:
        broken = one(server, "home")
        assert (broken.status, list(broken.effects), broken.version) == (REPLAY_STATUS_BROKEN, [], 2)
        assert broken.problem.startswith("scenario.controls[0].concept: unknown concept 'genres:Horror'; did you mean")
        assert broken.bundle_version_before == turned.name


def test_features_are_carried_or_broken(bundle_dir: Path, same: Path, url: str, tmp_path: Path) -> None:
    with served(bundle_dir, url, tmp_path / "first") as server:
        version = server.model.GetModelInfo(GetModelInfoRequest()).bundle_version
        concept = next(
            each for each in load_bundle(bundle_dir, "onnx").concepts.to_pylist() if "Horror" in each["name"]
        )
        feature = FeatureRef(id=concept["features"][0], bundle_version=version)
        put(server, "home", controls=[Control(feature=feature, operation=OPERATION_ADD, strength=1.0)])
        assert one(server, "home").effects[0].name == "overlap"
    with served(same, url, tmp_path / "alone") as server:
        broken = one(server, "home")
        assert broken.status == REPLAY_STATUS_BROKEN
        assert broken.problem.startswith("scenario.controls[0].feature.bundle_version: feature")
    shutil.copytree(bundle_dir, tmp_path / "beside" / version)
    shutil.copytree(same, tmp_path / "beside" / same.name)
    with served(tmp_path / "beside" / same.name, url, tmp_path / "both") as server:
        assert one(server, "home").status == REPLAY_STATUS_HELD


def test_a_put_succeeds_where_nothing_can_be_measured(
    bundle_dir: Path, same: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*arguments: object, **named: object) -> None:
        raise QueueFull("the queue is full", retry_seconds=1.0)

    with served(bundle_dir, url, tmp_path / "first") as server:
        put(server, "home", controls=[HORROR])
        with monkeypatch.context() as patched:
            patched.setattr(Batcher, "submit", full)
            assert put(server, "home", version=1, controls=[HORROR]).measured_histories == 0
            # What was measured of version 1 says nothing of version 2.
            assert one(server, "home").histories == 0
        assert server.scenario.GetScenario(GetScenarioRequest(name="home")).scenario.version == 2
    with served(same, url, tmp_path / "same") as server:
        replayed = one(server, "home")
        assert (replayed.status, replayed.histories, list(replayed.effects), replayed.bundle_version_before) == (
            REPLAY_STATUS_NOTHING_TO_COMPARE,
            0,
            [],
            "",
        )
        with monkeypatch.context() as patched:
            put(server, "other", controls=[HORROR])
            patched.setattr(Batcher, "submit", full)
            assert one(server, "other").status == REPLAY_STATUS_NOTHING_TO_COMPARE


def test_a_put_does_not_wait_for_an_engine_that_stands(
    bundle_dir: Path, url: str, tmp_path: Path, slow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "MOST_PUT_SECONDS", 0.1)
    with served(bundle_dir, url, tmp_path) as server:
        try:
            assert put(server, "home", controls=[HORROR]).measured_histories == 0
        finally:
            slow[1].set()


def test_an_overload_ends_a_replay(
    bundle_dir: Path, same: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*arguments: object, **named: object) -> None:
        raise QueueFull("the queue is full", retry_seconds=1.0)

    with served(bundle_dir, url, tmp_path / "first") as server:
        put(server, "home", controls=[HORROR])
    with served(same, url, tmp_path / "same") as server:
        monkeypatch.setattr(Batcher, "submit", full)
        failed = failure(server.scenario.ReplayScenarios, ReplayScenariosRequest())
    assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")


def test_pages(bundle_dir: Path, url: str, tmp_path: Path) -> None:
    with served(bundle_dir, url, tmp_path) as server:
        for name in "dbca":
            put(server, name)
        names, token = [], ""
        while True:
            page = replay(server, page_size=3, page_token=token)
            names.append([replayed.name for replayed in page.replays])
            # What is deleted meanwhile neither hides nor repeats another one.
            server.scenario.DeleteScenario(DeleteScenarioRequest(name="c"))
            if not (token := page.next_page_token):
                break
        assert names == [["a", "b", "c"], ["d"]]
        first = replay(server, "d", "b", "b", page_size=1)
        assert [replayed.name for replayed in first.replays] == ["b"]
        second = replay(server, "b", "d", page_size=1, page_token=first.next_page_token)
        assert ([replayed.name for replayed in second.replays], second.next_page_token) == (["d"], "")
        for others in (["b"], []):
            request = ReplayScenariosRequest(page_token=first.next_page_token, names=others)
            assert failure(server.scenario.ReplayScenarios, request).fields.keys() == {"page_token"}
        server.scenario.DeleteScenario(DeleteScenarioRequest(name="a"))
        for name in "bd":
            server.scenario.DeleteScenario(DeleteScenarioRequest(name=name))
        assert not replay(server).replays


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"names": ["home", ""]}, "names[1]"),
        ({"names": ["a" * 129]}, "names[0]"),
        ({"names": ["ä"]}, "names[0]"),
        ({"names": ["a"] * 1001}, "names"),
        ({"page_size": 1001}, "page_size"),
        ({"page_size": 2**32 - 1}, "page_size"),
        ({"page_token": "x"}, "page_token"),
        ({"page_token": "ä"}, "page_token"),
    ],
)
def test_a_wrong_field_is_named(server: Running, fields: dict[str, Any], field: str) -> None:
    failed = failure(server.scenario.ReplayScenarios, ReplayScenariosRequest(**fields))
    assert (failed.code, {*failed.fields}) == (grpc.StatusCode.INVALID_ARGUMENT, {field})


def test_an_unknown_name_is_not_found(server: Running) -> None:
    put(server, "home-first-row")
    failed = failure(server.scenario.ReplayScenarios, ReplayScenariosRequest(names=["home-first-row", "home-frst-row"]))
    assert failed.code == grpc.StatusCode.NOT_FOUND
    assert failed.message.startswith("names[1]: there is no scenario 'home-frst-row'; did you mean home-first-row")
    server.scenario.DeleteScenario(DeleteScenarioRequest(name="home-first-row"))


async def test_histories_are_kept_once_and_only_while_a_scenario_needs_them(
    bundle_dir: Path, url: str, tmp_path: Path
) -> None:
    from redis.asyncio import Redis

    def run() -> Iterator[None]:
        with served(bundle_dir, url, tmp_path) as server:
            for name in "ab":
                put(server, name, controls=[HORROR])
                yield
            for name in "ab":
                server.scenario.DeleteScenario(DeleteScenarioRequest(name=name))
                yield

    async with Redis.from_url(url) as redis:
        counts = []
        for _ in run():
            keys = ("effects", "measured", "histories")
            counts.append([await redis.hlen(f"steersman:{{/scenarios}}:{key}") for key in keys])
    assert counts == [[1, 1, 1], [2, 2, 1], [1, 1, 1], [0, 0, 0]]


def test_the_store_is_away(bundle_dir: Path, tmp_path: Path) -> None:
    away = f"unix://{tmp_path / 'nowhere'}"
    # Liveness does not depend on the store: without it there is nothing to compare with.
    with served(bundle_dir, away, tmp_path, scenario_replay="block") as server:
        failed = failure(server.scenario.ReplayScenarios, ReplayScenariosRequest())
        assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "SESSION_STORE_UNAVAILABLE")
        assert server.recommendation.Recommend(RecommendRequest(k=3)).items


def refuse(bundle: Path, url: str, data: Path) -> None:
    with served(bundle, url, data, scenario_replay="block"):
        pass


def test_block_refuses_what_moved_or_broke(
    bundle_dir: Path, same: Path, turned: Path, renamed: Path, url: str, tmp_path: Path
) -> None:
    with served(bundle_dir, url, tmp_path / "first", scenario_replay="block") as server:
        put(server, "home", controls=[HORROR])
        put(server, "plain")
    for bundle, why in ((turned, "moved"), (renamed, "broken")):
        with pytest.raises(StartupError, match=rf"home \({why}\)\. Serve it with scenario_replay=report") as caught:
            refuse(bundle, url, tmp_path / why)
        assert "Horror" not in str(caught.value)
        assert "plain" not in str(caught.value)
        with served(bundle, url, tmp_path / f"{why} off", scenario_replay="off"):
            pass
    with served(same, url, tmp_path / "same", scenario_replay="block") as server:
        assert one(server, "home").status == REPLAY_STATUS_HELD


def test_a_server_counts_what_moved_until_it_is_put_again(
    bundle_dir: Path, turned: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_watch, "REPEAT_SECONDS", 0.01)
    with served(bundle_dir, url, tmp_path / "first") as server:
        put(server, "home", controls=[HORROR])
        put(server, "plain")
        until(server, nothing_to_compare=2)
    with served(turned, url, tmp_path / "turned") as server:
        until(server, moved=1, held=1)
        put(server, "home", version=1, controls=[HORROR])
        until(server, nothing_to_compare=1, held=1)
        server.scenario.DeleteScenario(DeleteScenarioRequest(name="plain"))
        until(server, nothing_to_compare=1)
    with served(turned, url, tmp_path / "off", scenario_replay="off") as server:
        assert replays_counted(server) == STATUSES


def until(server: Running, **counts: int) -> None:
    """Waits until the metrics say so."""
    for _ in range(3000):
        if replays_counted(server) == STATUSES | counts:
            return
        time.sleep(0.01)
    raise AssertionError(replays_counted(server))


def replays_counted(server: Running) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.ports.metrics}/metrics") as response:
        lines = response.read().decode()
    return {
        status: round(float(value))
        for status, value in re.findall(r'^steersman_scenario_replays\{status="(\w+)"\} (\S+)$', lines, re.MULTILINE)
    }
