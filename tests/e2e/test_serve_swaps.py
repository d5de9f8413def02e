"""Bundles changed under load: by the link, by calls, as canary; refused; brought back. Every answer is compared with its bundle's own."""

import os
import shutil
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from steersman.v1.control_pb2 import OPERATION_ADD, Control, FeatureRef
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from steersman_client import CallError, Client, Release, load
from tests.e2e.processes import engines_of, workers_of
from tests.e2e.test_serve_workers import ASK_SECONDS, Served, served
from tests.serving import explain

HISTORIES = [(str(101 + number), str(111 + number)) for number in range(24)]
CONTROLS = {"genres:Horror": 1.0}
CLIENTS = 4
# Of each client, between connections: what loads has its share of two cores.
PAUSE_SECONDS = 0.1
SECONDS = 60.0


class Bundles(NamedTuple):
    """Two of other content, and the link."""

    link: Path
    first: Path
    second: Path
    answers: Mapping[str, Mapping[tuple[str, str], Any]]
    """By version and history."""

    @property
    def current(self) -> str:
        return os.readlink(self.link)

    def turn(self, folder: Path) -> None:
        new = self.link.with_name("new")
        new.symlink_to(folder.name)
        new.replace(self.link)


def told(answer: Any) -> Any:
    """What depends on the bundle: of a client's answer, or of a message."""
    edits = [(edit.feature_id, round(edit.strength, 3)) for each in answer.applied_controls for edit in each.edits]
    return [(item.item_id, round(item.score, 3)) for item in answer.items], edits


@pytest.fixture(scope="module")
def bundles(bundle_dir: Path, other_seed: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    folder = tmp_path_factory.mktemp("bundles")
    first, second = (Path(shutil.copytree(each, folder / each.name)) for each in (bundle_dir, other_seed))
    answers = {}
    for bundle in (first, second):
        with load(bundle) as local:
            answers[bundle.name] = {each: told(local.recommend(each, controls=CONTROLS, k=5)) for each in HISTORIES}
    link = folder / "current"
    link.symlink_to(first.name)
    return Bundles(link, first, second, answers)


@contextmanager
def serving(bundles: Bundles, data: Path, *flags: str) -> Iterator[Served]:
    bundles.turn(bundles.first)
    with served(data, bundles.link, "--bundle-watch-seconds", "0.1", "--drain-seconds", "5", *flags) as server:
        yield server


@pytest.fixture(scope="module")
def server(bundles: Bundles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(bundles, tmp_path_factory.mktemp("data"), "--workers", "2", "--engines", "1") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[Client]:
    with Client(server.address, timeout=SECONDS) as client:
        yield client


class Load:
    """Clients with connections of their own, until the end of the block. Answers that are neither bundle's are `mixed`."""

    def __init__(self, server: Served, bundles: Bundles) -> None:
        self._server, self._bundles = server, bundles
        self._stop = threading.Event()
        self.seen: dict[Sequence[str], list[str]] = defaultdict(list)
        """Versions that answered each history, each as often as it came to be."""
        self.errors: list[Any] = []
        self.mixed: list[Any] = []
        self.answers = 0
        self._threads = [threading.Thread(target=self._call, args=(place,)) for place in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        self.more()
        return self

    def __exit__(self, *failed: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self) -> None:
        goal = self.answers + len(HISTORIES) * 3
        until(lambda: self.answers + len(self.errors) >= goal)

    def _call(self, place: int) -> None:
        """Without a repeated attempt: every error counts."""
        own = HISTORIES[place::CLIENTS]
        while not self._stop.wait(PAUSE_SECONDS):
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
            with grpc.insecure_channel(self._server.address, options) as channel:
                for history in own:
                    self._ask(RecommendationServiceStub(channel), history)

    def _ask(self, stub: RecommendationServiceStub, history: tuple[str, str]) -> None:
        controls = [Control(concept="genres:Horror", operation=OPERATION_ADD, strength=1.0)]
        request = RecommendRequest(history=History(item_ids=history), controls=controls, k=5)
        try:
            answer = stub.Recommend(request, timeout=SECONDS)
        except grpc.RpcError as error:
            self.errors.append(error)
            return
        if told(answer) != self._bundles.answers[answer.bundle_version][history]:
            self.mixed.append(answer)
        if self.seen[history][-1:] != [answer.bundle_version]:
            self.seen[history].append(answer.bundle_version)
        self.answers += 1


def until(holds: Any) -> None:
    for _ in range(int(SECONDS / ASK_SECONDS)):
        if holds():
            return
        time.sleep(ASK_SECONDS)
    raise AssertionError("did not come true in time")


def by_state(releases: Sequence[Release]) -> dict[str, list[tuple[str, str]]]:
    found = defaultdict(list)
    for each in releases:
        found[each.state].append((each.channel, each.version))
    return dict(found)


def swaps(server: Served, outcome: str) -> float:
    (line,) = (
        line
        for line in server.scrape().splitlines()
        if line.startswith(f'steersman_bundle_swaps_total{{outcome="{outcome}"')
    )
    return float(line.rpartition(" ")[2])


def settled(server: Served, client: Client, engines: int) -> None:
    """Nothing is left of what was served before."""
    until(lambda: "draining" not in by_state(client.releases()))
    until(lambda: len(engines_of(server.process.pid)) == engines)


def test_what_the_link_names_is_served_and_no_call_fails(server: Served, client: Client, bundles: Bundles) -> None:
    front_ends, before = workers_of(server.process.pid), swaps(server, "ok")
    with Load(server, bundles) as calls:
        for bundle in (bundles.second, bundles.first, bundles.second):
            bundles.turn(bundle)
            until(lambda wanted=bundle.name: client.model_info().bundle_version == wanted)
            calls.more()
        settled(server, client, 1)
    assert (calls.errors, calls.mixed) == ([], [])
    first, second = bundles.first.name, bundles.second.name
    assert all(seen == [first, second, first, second] for seen in calls.seen.values())
    assert workers_of(server.process.pid) == front_ends
    assert swaps(server, "ok") == before + 3
    server.until("steersman_ready 1.0", "steersman_bundle_refused 0.0")
    # One that dies comes back with what is served now.
    server.kill(front_ends[0])
    server.kill(engines_of(server.process.pid)[0])
    server.until("steersman_ready 1.0", "steersman_workers 2.0")
    with Load(server, bundles) as calls:
        pass
    assert {version for seen in calls.seen.values() for version in seen} == {second}


def test_a_canary_is_sticky_is_promoted_and_brought_back(server: Served, client: Client, bundles: Bundles) -> None:
    bundles.turn(bundles.first)
    until(lambda: client.model_info().bundle_version == bundles.first.name)
    first, second = bundles.first.name, bundles.second.name
    with Load(server, bundles) as calls:
        listed = client.load_release(second, channel="canary", canary_share=0.3)
        assert by_state(listed)["serving"] == [("stable", first), ("canary", second)]
        assert [round(each.share, 3) for each in listed[:2]] == [0.7, 0.3]
        calls.more()
        # A front end that comes back knows of it.
        server.kill(workers_of(server.process.pid)[0])
        server.until("steersman_ready 1.0")
        calls.more()
        client.set_canary_share(0.8)
        calls.more()
    few = [seen for seen in calls.seen.values() if seen == [first, second]]
    assert len(few) > 0
    # None went back and forth, and the killed process cost no wrong answer.
    assert all(seen in ([first], [first, second]) for seen in calls.seen.values())
    assert (calls.mixed, {error.code().name for error in calls.errors} - {"UNAVAILABLE", "CANCELLED"}) == ([], set())
    # A session is one release's; a call may name another one, or a feature of it.
    answered = {client.recommend(session_id="s", k=1).bundle_version for _ in range(5)}
    assert len(answered) == 1
    (stranger,) = {first, second} - answered
    with grpc.insecure_channel(server.address) as channel:
        stub, request = RecommendationServiceStub(channel), RecommendRequest(session_id="s", k=1)

        def named(version: str) -> str:
            return stub.Recommend(request, metadata=(("steersman-bundle-version", version),)).bundle_version

        assert named(stranger) == stranger
        request.controls.add(feature=FeatureRef(id=1, bundle_version=stranger), operation=OPERATION_ADD, strength=0.0)
        assert stub.Recommend(request).bundle_version == stranger
        with pytest.raises(grpc.RpcError) as failed:
            named("0" * 64)
        assert (explain(failed.value).reason, stranger in explain(failed.value).message) == ("BUNDLE_NOT_SERVED", True)
    assert 'steersman_channel_seconds_count{channel="canary",outcome="ok"}' in server.scrape()
    with pytest.raises(CallError, match="the canary is"):
        client.promote_canary("1" * 64)
    with Load(server, bundles) as calls:
        assert by_state(client.promote_canary(second))["serving"] == [("stable", second)]
        assert bundles.current == second
        calls.more()
        assert by_state(client.roll_back())["serving"] == [("stable", first)]
        assert bundles.current == first
        calls.more()
        client.load_release(second, channel="canary", canary_share=1)
        calls.more()
        assert by_state(client.roll_back())["serving"] == [("stable", first)]
        calls.more()
        settled(server, client, 1)
    assert (calls.errors, calls.mixed) == ([], [])
    assert {tuple(seen[-3:]) for seen in calls.seen.values()} == {(first, second, first)}


def test_what_does_not_load_is_refused_and_the_old_goes_on(server: Served, client: Client, bundles: Bundles) -> None:
    refused, broken = swaps(server, "refused"), bundles.link.with_name("broken")
    shutil.copytree(bundles.second, broken)
    (broken / "golden.npz").write_bytes(b"x")
    with Load(server, bundles) as calls:
        bundles.turn(broken)
        server.until("steersman_bundle_refused 1.0")
        (problem,) = [each for each in client.releases() if each.state == "refused"]
        assert (problem.name, "golden.npz" in problem.problem) == ("broken", True)
        assert str(bundles.link.parent) not in problem.problem
        with pytest.raises(CallError, match=r"golden\.npz") as caught:
            client.load_release("broken", channel="canary")
        assert caught.value.reason == "RELEASE_REFUSED"
        # It is not tried again until it changes.
        time.sleep(0.5)
        assert swaps(server, "refused") == refused + 2
        shutil.copy(bundles.second / "golden.npz", broken)
        until(lambda: client.model_info().bundle_version == bundles.second.name)
        server.until("steersman_bundle_refused 0.0")
        bundles.turn(bundles.first)
        until(lambda: client.model_info().bundle_version == bundles.first.name)
    assert (calls.errors, calls.mixed) == ([], [])
    assert any(line["event"] == "release refused" and "golden.npz" in line["error"] for line in server.log)
    for wrong, reason in (
        ("nope", "NOT_FOUND"),
        ("..", "NOT_FOUND"),
        ("", "INVALID_REQUEST"),
        ("x" * 999, "INVALID_REQUEST"),
    ):
        with pytest.raises(CallError) as caught:
            client.load_release(wrong)
        assert caught.value.reason == reason
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(CallError) as caught:
            client.load_release(bundles.second.name, channel="canary", canary_share=share)
        assert "canary_share" in caught.value.fields
    with pytest.raises(CallError) as caught:
        client.set_canary_share(0.5)
    assert caught.value.reason == "NO_CANARY"


def test_a_process_that_dies_while_it_loads_is_a_refusal(server: Served, client: Client, bundles: Bundles) -> None:
    """One change at a time, too."""
    settled(server, client, 1)
    engine = engines_of(server.process.pid)[0]
    failed: list[CallError] = []

    def ask() -> None:
        with pytest.raises(CallError) as caught, Client(server.address, timeout=SECONDS) as own:
            own.load_release(bundles.second.name)
        failed.append(caught.value)

    asking = threading.Thread(target=ask)
    with Load(server, bundles) as calls:
        asking.start()
        until(lambda: len(engines_of(server.process.pid)) == 2)
        (loading,) = set(engines_of(server.process.pid)) - {engine}
        os.kill(loading, signal.SIGSTOP)
        assert by_state(client.releases())["loading"] == [("stable", "")]
        with pytest.raises(CallError) as caught:
            client.roll_back()
        assert caught.value.reason == "RELEASE_CHANGING"
        os.kill(loading, signal.SIGKILL)
        asking.join()
        calls.more()
    assert (calls.errors, calls.mixed) == ([], [])
    assert (failed[0].reason, "exit code -9" in failed[0].message) == ("RELEASE_REFUSED", True)
    assert (engines_of(server.process.pid), bundles.current) == ([engine], bundles.first.name)


def test_sighup_ends_a_canary(server: Served, client: Client, bundles: Bundles) -> None:
    client.load_release(bundles.second.name, channel="canary", canary_share=0.5)
    old = workers_of(server.process.pid)
    with Load(server, bundles) as calls:
        server.process.send_signal(signal.SIGHUP)
        until(lambda: not set(old) & set(workers_of(server.process.pid)))
        calls.more()
    # Front ends that drain end calls which clients repeat (docs/runbook.md); these do not.
    assert (calls.mixed, {error.code().name for error in calls.errors} - {"UNAVAILABLE", "CANCELLED"}) == ([], set())
    with Client(server.address, timeout=SECONDS) as fresh:
        assert by_state(fresh.releases())["serving"] == [("stable", bundles.first.name)]


def test_a_bundle_that_is_replaced_in_place_is_another_one(server: Served, client: Client, bundles: Bundles) -> None:
    """A process that dies must not come back with it, beside others that hold what was there before."""
    place = bundles.link.with_name("place")
    shutil.copytree(bundles.first, place)
    bundles.turn(place)
    until(lambda: any((each.name, each.state) == ("place", "serving") for each in client.releases()))
    settled(server, client, 1)
    with Load(server, bundles) as calls:
        shutil.rmtree(place)
        shutil.copytree(bundles.second, place)
        server.kill(engines_of(server.process.pid)[0])
        until(lambda: client.model_info().bundle_version == bundles.second.name)
        calls.more()
    assert (calls.mixed, {error.code().name for error in calls.errors} - {"UNAVAILABLE"}) == ([], set())
    bundles.turn(bundles.first)
    until(lambda: client.model_info().bundle_version == bundles.first.name)


def test_a_canary_without_engines_costs_no_front_end(server: Served, client: Client, bundles: Bundles) -> None:
    settled(server, client, 1)
    (engine,) = engines_of(server.process.pid)
    client.load_release(bundles.second.name, channel="canary", canary_share=0.5)
    (canary,) = set(engines_of(server.process.pid)) - {engine}
    server.kill(canary)
    until(lambda: set(engines_of(server.process.pid)) - {engine, canary})
    (again,) = set(engines_of(server.process.pid)) - {engine, canary}
    os.kill(again, signal.SIGSTOP)
    server.kill(workers_of(server.process.pid)[0])
    server.until("steersman_workers 2.0")
    with pytest.raises(CallError, match="does not answer"):
        client.promote_canary()
    assert by_state(client.roll_back())["serving"] == [("stable", bundles.first.name)]
    with Load(server, bundles) as calls:
        pass
    assert (calls.errors, calls.mixed) == ([], [])


def test_front_ends_that_compute_change_bundles_too(bundles: Bundles, tmp_path: Path) -> None:
    with (
        serving(bundles, tmp_path, "--engines", "0") as server,
        Client(server.address, timeout=SECONDS) as client,
        Load(server, bundles) as calls,
    ):
        front_ends = workers_of(server.process.pid)
        bundles.turn(bundles.second)
        until(lambda: client.model_info().bundle_version == bundles.second.name)
        calls.more()
        client.load_release(bundles.first.name, channel="canary", canary_share=0.5)
        calls.more()
        client.promote_canary()
        calls.more()
        settled(server, client, 0)
        server.until("steersman_ready 1.0", "steersman_queue_capacity 256.0")
        assert workers_of(server.process.pid) == front_ends
    assert (calls.errors, calls.mixed) == ([], [])
    assert {seen[-1] for seen in calls.seen.values()} == {bundles.first.name}


def test_a_change_that_the_end_of_the_server_interrupts_is_answered(bundles: Bundles, tmp_path: Path) -> None:
    with (
        serving(bundles, tmp_path, "--engines", "0") as ending,
        Client(ending.address, timeout=SECONDS) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        asked = pool.submit(client.load_release, bundles.second.name)
        until(lambda: engines_of(ending.process.pid))
        os.kill(engines_of(ending.process.pid)[0], signal.SIGSTOP)
        ending.end()
        with pytest.raises(CallError) as caught:
            asked.result()
    assert (caught.value.reason, bundles.current) == ("DRAINING", bundles.first.name)
