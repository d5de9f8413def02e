"""A history that grew is answered as one computed anew, whoever asks, beside whatever else, and whatever had to make room."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event
from steersman_service.bundle.bundle import OPTIONAL_GRAPHS, SUFFIXES, Array, Bundle, load_bundle
from steersman_service.bundle.items import Items
from steersman_service.bundle.window import in_window
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.caches import MOST_APPENDED
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.groups import one_group
from steersman_service.engine.history import HistoryReader
from steersman_service.engine.observer import Silent
from steersman_service.engine.request import EngineRequest
from steersman_service.errors import BundleError
from tests.service.bundle.test_bundle import resign
from tests.service.engine.test_engine import (
    BACKENDS,
    GROUPS,
    Counting,
    assert_same,
    backend_of,
    random_work,
    without_controls,
)
from tests.service.telemetry.test_metrics import scrape
from tests.serving import serving, settings_for

# Bytes: none, a few histories, and more than there are.
CACHES = [0, 30_000, 1 << 24]


@pytest.fixture(scope="module")
def engines(bundle: Bundle) -> dict[str, Engine]:
    return {name: Engine(Graphs(bundle, backend_of(bundle, name))) for name in BACKENDS}


@pytest.fixture(scope="module", params=BACKENDS)
def engine(request: pytest.FixtureRequest, engines: dict[str, Engine]) -> Engine:
    return engines[request.param]


class Counts(Silent):
    """How many histories an engine appended to, how many it computed whole, and how many made room."""

    def __init__(self) -> None:
        self.hits = self.misses = self.evicted = 0

    def kv_cache(self, hits: int, misses: int) -> None:
        self.hits, self.misses = self.hits + hits, self.misses + misses

    def kv_evicted(self) -> None:
        self.evicted += 1


def caching(
    graphs: Graphs,
    kv_bytes: int = 1 << 24,
    state_bytes: int = 1 << 20,
    groups: Callable[[Array], list[Array]] | None = None,
) -> tuple[Engine, Counts]:
    counts = Counts()
    history = HistoryReader(
        graphs, state_bytes=state_bytes, kv_bytes=kv_bytes, groups=groups, append_groups=groups, observer=counts
    )
    return Engine(graphs, history=history), counts


class Conversations:
    """Histories that grow, each seen through the window, and requests of any kind that come with them."""

    def __init__(self, bundle: Bundle, rng: np.random.Generator, count: int) -> None:
        self.bundle, self.rng = bundle, rng
        self.events: list[list[int]] = [[] for _ in range(count)]

    def batch(self) -> list[EngineRequest]:
        """From some of them, those that say nothing new among them."""
        window = self.bundle.manifest.window
        works = []
        for row in self.rng.permutation(len(self.events))[: self.rng.integers(1, len(self.events) + 1)]:
            events = self.events[row]
            events += self.rng.integers(
                len(self.bundle.items_ND), size=self.rng.choice([0, 1, 1, 1, 2, 3, 12])
            ).tolist()
            shown = in_window([str(item) for item in events], len(events), window.length, window.stride)
            work = random_work(self.bundle, self.rng, jumps=False)
            ids_T = np.array([int(item) for item in shown], np.int64)
            works.append(work._replace(ids_T=ids_T, grows=bool(self.rng.random() < 0.8)))
        return works


@pytest.mark.parametrize("kv_bytes", CACHES)
@pytest.mark.parametrize("state_bytes", [0, 1 << 20])
@pytest.mark.parametrize("groups", ["one group", "cheapest groups"])
@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6))
def test_appended_equals_computed_anew(
    engine: Engine, groups: str, kv_bytes: int, state_bytes: int, seed: int, count: int
) -> None:
    """Over the window's length, several times; every batch mixes histories that are known, that grew, and that are new."""
    conversations = Conversations(engine.bundle, np.random.default_rng(seed), count)
    growing, counts = caching(engine.graphs, kv_bytes, state_bytes, GROUPS[groups])
    for _ in range(30):
        batch = conversations.batch()
        for work, answer in zip(batch, growing.run(batch), strict=True):
            assert_same(answer, engine.run([work])[0], 1e-5)
        assert growing.key_values.held_bytes <= kv_bytes
    assert bool(counts.hits) == bool(kv_bytes)
    assert kv_bytes != CACHES[-1] or not counts.evicted


def test_it_stays_exact_however_often_it_grows(engine: Engine) -> None:
    """Event by event through the whole window: rounding does not add up."""
    bundle = engine.bundle
    growing, counts = caching(engine.graphs)
    ids_T = np.random.default_rng(1).integers(len(bundle.items_ND), size=bundle.manifest.window.length)
    work = without_controls(random_work(bundle, np.random.default_rng(2)))._replace(grows=True)
    for events in range(len(ids_T) + 1):
        one = work._replace(ids_T=ids_T[:events])
        assert_same(growing.run([one])[0], engine.run([one])[0], 1e-5)
    assert (counts.hits, counts.misses) == (len(ids_T), 1)


def plain(bundle: Bundle, *histories: Array, grows: bool = True) -> list[EngineRequest]:
    work = without_controls(random_work(bundle, np.random.default_rng(3)))
    return [work._replace(ids_T=ids_T, grows=grows) for ids_T in histories]


def test_what_is_computed(engine: Engine) -> None:
    bundle, backend = engine.bundle, Counting(engine.backend)
    graphs, ids_T = Graphs(bundle, backend), np.arange(20)
    growing, _ = caching(graphs, groups=one_group)

    def calls(*histories: Array, grows: bool = True) -> dict[str, list[int]]:
        backend.calls.clear()
        growing.run(plain(bundle, *histories, grows=grows))
        rows = backend.rows()
        del rows["search"]
        return rows

    assert calls(ids_T[:3], ids_T[5:9]) == {"keep": [2]}
    assert calls(ids_T[:3]) == {}, "its state is known"
    assert calls(ids_T[:4], ids_T[5:10], ids_T[7:]) == {"append": [2], "keep": [1]}
    assert calls(ids_T[:6], ids_T[5:11]) == {"append": [1, 1, 1]}, "two events of one, one of the other"
    assert calls(ids_T[: 6 + MOST_APPENDED]) == {"append": [1] * MOST_APPENDED}
    assert calls(ids_T[5 : 11 + MOST_APPENDED + 1]) == {"keep": [1]}, "as many as that are computed whole"
    growing.key_values.clear()
    explicit = [ids_T[7 : 10 + events] for events in (0, 2, 3)]
    assert calls(explicit[0], grows=False) == {"lower": [1]}, "it may never come again"
    assert calls(explicit[1], ids_T[1:9], grows=False) == {"lower": [1], "keep": [1]}, "one of them has grown"
    assert calls(explicit[2], grows=False) == {"append": [1]}
    growing, _ = caching(graphs, kv_bytes=0)
    assert calls(ids_T[:15]) == {"lower": [1]}, "nothing is kept where nothing is to be"


def test_two_that_go_on_from_the_same_history(engine: Engine) -> None:
    """One of them takes what is kept over; the other is computed whole."""
    bundle = engine.bundle
    growing, counts = caching(engine.graphs)
    growing.run(plain(bundle, np.arange(5)))
    batch = plain(bundle, np.array([0, 1, 2, 3, 4, 7]), np.array([0, 1, 2, 3, 4, 9, 9]), np.arange(5))
    for work, answer in zip(batch, growing.run(batch), strict=True):
        assert_same(answer, engine.run([work])[0], 1e-5)
    assert (counts.hits, counts.misses) == (1, 2)


def test_a_batch_that_fails_leaves_nothing_wrong_behind(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a batch may have grown when another part of it fails."""
    bundle = engine.bundle
    growing, _ = caching(engine.graphs)
    growing.run(plain(bundle, np.arange(5)))

    def fail(*arguments: object) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(growing.index, "search", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            growing.run(plain(bundle, np.arange(6)))
    for history in (np.arange(6), np.arange(7)):
        (work,) = plain(bundle, history)
        assert_same(growing.run([work])[0], engine.run([work])[0], 1e-5)


@pytest.fixture
def without_append(bundle_dir: Path, tmp_path: Path) -> Path:
    """A bundle as format 1.0 had it."""
    folder = Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))

    def older(manifest: dict[str, Any]) -> None:
        manifest.update(format_minor=0, graphs=[g for g in manifest["graphs"] if g["name"] not in OPTIONAL_GRAPHS])
        for file in (f"{name}{suffix}" for name in OPTIONAL_GRAPHS for suffix in SUFFIXES.values()):
            (folder / file).unlink()
            del manifest["files"][file]

    resign(folder, older)
    return folder


def test_a_bundle_without_these_graphs_is_served(without_append: Path, bundle: Bundle, tmp_path: Path) -> None:
    ids = Items(bundle.items).ids
    with serving(settings_for(tmp_path, without_append)) as server:
        for events in (3, 4):
            history = History(item_ids=ids[:events])
            assert server.recommendation.Recommend(RecommendRequest(history=history)).history_use.used_events == events


def test_a_bundle_that_names_a_graph_has_its_file(without_append: Path) -> None:
    resign(without_append, lambda manifest: manifest["graphs"].append({"name": "append"}))
    with pytest.raises(BundleError, match=r"append.onnx.*not among"):
        load_bundle(without_append, "onnx")


def test_below_the_last_block_nothing_is_kept(below_the_last_block: Path) -> None:
    bundle = load_bundle(below_the_last_block, "onnx")
    growing, counts = caching(Graphs(bundle, load_backend(bundle, "onnx", "cpu", 1)))
    for events in (3, 4):
        growing.run(plain(bundle, np.arange(events)))
    assert (counts.hits, counts.misses, growing.key_values.held_bytes) == (0, 0, 0)


def test_a_session_that_grows_is_appended_to(bundle_dir: Path, tmp_path: Path, bundle: Bundle) -> None:
    """Through gRPC, past the window's length; beside it a server that keeps nothing, which is sent the whole history."""
    ids = Items(bundle.items).ids
    with (
        serving(settings_for(tmp_path / "keeping", bundle_dir)) as server,
        serving(settings_for(tmp_path / "plain", bundle_dir, kv_cache_mb=0, state_cache_mb=0)) as other,
    ):
        before = scrape(server)
        assert before["steersman_kv_cache_bytes"] == 0.0, "the warm-up leaves nothing behind"
        for event in range(30):
            events = [Event(event_id=str(event), item_id=ids[event])]
            server.session.AppendEvents(AppendEventsRequest(session_id="grows", events=events))
            ours = server.recommendation.Recommend(RecommendRequest(session_id="grows"))
            theirs = other.recommendation.Recommend(RecommendRequest(history=History(item_ids=ids[: event + 1])))
            assert ours.history_use == theirs.history_use
            wanted = {item.item_id: item.score for item in theirs.items}
            assert {item.item_id: item.score for item in ours.items} == pytest.approx(wanted, rel=1e-5, abs=1e-5)
        after = scrape(server)
        # Of a window of 20 that moves by 5: the first event, and the events 21 and 26.
        assert after["steersman_kv_cache_misses_total"] == 3.0
        assert after["steersman_kv_cache_hits_total"] == 27.0
        assert after['steersman_inference_seconds_count{stage="append"}'] == 27.0
        assert after["steersman_kv_cache_bytes"] > 0.0
