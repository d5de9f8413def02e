"""Labels that people correct: seen everywhere, by every server, and carried to later bundles; over gRPC."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from steersman.v1.control_pb2 import OPERATION_ADD, Control, FeatureRef
from steersman.v1.explanation_service_pb2 import ExplainRequest
from steersman.v1.explanation_service_pb2_grpc import ExplanationServiceStub
from steersman.v1.feature_service_pb2 import (
    FEATURE_KIND_DISCOVERED,
    Feature,
    GetFeatureRequest,
    LabelCorrection,
    ListFeaturesRequest,
    ListNeighboursRequest,
    SetLabelRequest,
)
from steersman.v1.recommendation_service_pb2 import History, RecommendRequest
from steersman_service.bundle.bundle import Bundle
from steersman_service.sessions import labels as module
from steersman_service.sessions.labels import Corrected, LabelStore
from steersman_service.sessions.store import SessionStore
from steersman_service.sessions.valkey import EmbeddedValkey
from steersman_service.telemetry.metrics import Metrics
from tests.service.steering.test_carried import signed, swapped_beside
from tests.serving import Running, failure, serving, settings_for

PATIENCE_SECONDS = 60.0


def feature(server: Running, feature_id: int) -> Feature:
    return server.feature.GetFeature(GetFeatureRequest(id=feature_id)).feature


def version(server: Running) -> str:
    return str(server.feature.GetFeature(GetFeatureRequest()).bundle_version)


def correct(server: Running, feature_id: int, label: str, author: str = "") -> Feature:
    request = SetLabelRequest(id=feature_id, bundle_version=version(server), label=label, author=author)
    return server.feature.SetLabel(request).feature


def until(server: Running, feature_id: int, label: str) -> Feature:
    """Once the server has seen a change that another one made."""
    end = time.monotonic() + PATIENCE_SECONDS
    while feature(server, feature_id).label != label and time.monotonic() < end:
        time.sleep(0.05)
    return feature(server, feature_id)


@pytest.fixture
def some(server: Running) -> Iterator[int]:
    """A feature that taste and accounts may name; its label is automatic again afterwards."""
    request = ListFeaturesRequest(page_size=1, kind=FEATURE_KIND_DISCOVERED)
    (listed,) = server.feature.ListFeatures(request).features
    yield listed.id
    correct(server, listed.id, "")


def labels_in(server: Running, some: int) -> list[str]:
    """Of one feature, in every answer that has it."""
    control = Control(
        feature=FeatureRef(id=some, bundle_version=version(server)), operation=OPERATION_ADD, strength=0.5
    )
    request = RecommendRequest(history=History(item_ids=feature(server, some).top_item_ids), controls=[control])
    (applied,) = server.recommendation.Recommend(request).applied_controls
    explained = ExplanationServiceStub(server.channel).Explain(ExplainRequest(request=request, top_features=100))
    (again,) = explained.recommendation.applied_controls
    active = [one for one in explained.taste.features if one.feature_id == some]
    amounts = [one for account in explained.accounts for one in account.features if one.feature_id == some]
    others = server.feature.ListNeighbours(ListNeighboursRequest(feature=control.feature, size=100))
    neighbour = (others.alike or others.opposed)[0]
    back = ListNeighboursRequest(size=100)
    if neighbour.WhichOneof("of") == "concept":
        back.concept = neighbour.concept
    else:
        back.feature.id, back.feature.bundle_version = neighbour.feature_id, version(server)
    listed = server.feature.ListNeighbours(back)
    near = [one for one in (*listed.alike, *listed.opposed) if one.WhichOneof("of") == "feature_id"]
    return [
        feature(server, some).label,
        applied.display_name,
        applied.edits[0].label,
        again.display_name,
        *(one.label for one in active),
        *(one.label for one in amounts),
        *(one.label for one in near if one.feature_id == some),
    ]


def found(server: Running, text: str) -> list[int]:
    return [one.id for one in server.feature.ListFeatures(ListFeaturesRequest(text=text, include_rare=True)).features]


def test_a_corrected_label_is_answered_everywhere(server: Running, some: int) -> None:
    automatic = feature(server, some).label
    before = labels_in(server, some)
    assert set(before) == {automatic}
    assert not found(server, "gritty crïme")
    corrected = correct(server, some, "Gritty crïme", "ada")
    assert corrected == feature(server, some)
    assert corrected.correction.automatic_label == automatic
    assert (corrected.correction.author, corrected.correction.carried_confidence) == ("ada", 0)
    assert corrected.correction.time.seconds > 1_700_000_000
    after = labels_in(server, some)
    assert set(after) == {"Gritty crïme"}
    assert len(after) == len(before) > 5
    assert found(server, "gritty crïme") == [some]
    # What is computed does not change: texts are read by automatic labels.
    words = Control(words="gritty", operation=OPERATION_ADD, strength=0.5)
    assert failure(server.recommendation.Recommend, RecommendRequest(controls=[words])).fields
    again = correct(server, some, "Grittier", "bo")
    assert (again.correction.automatic_label, again.correction.author) == (automatic, "bo")
    back = correct(server, some, "")
    assert (back.label, back.HasField("correction")) == (automatic, False)
    assert set(labels_in(server, some)) == {automatic}
    assert not found(server, "gritt")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"bundle_version": ""}, "bundle_version"),
        ({"label": "x" * 101}, "label"),
        ({"label": "x" * 100_000}, "label"),
        ({"label": "two\nlines"}, "label"),
        ({"label": "tab\there"}, "label"),
        ({"label": "\x00"}, "label"),
        ({"label": "back\u202ewards"}, "label"),
        ({"label": "two\u2028lines"}, "label"),
        ({"label": "   "}, "label"),
        ({"label": " x"}, "label"),
        ({"author": "x" * 129}, "author"),
        ({"author": "a\nb"}, "author"),
    ],
)
def test_what_is_wrong_is_named(server: Running, bundle: Bundle, fields: dict[str, Any], field: str) -> None:
    request = SetLabelRequest(**{"id": 1, "bundle_version": bundle.version, "label": "x", **fields})
    failed = failure(server.feature.SetLabel, request)
    assert failed.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(failed.fields) == [field]
    assert not feature(server, 1).HasField("correction")


def test_letters_that_join_are_no_controls(server: Running, some: int) -> None:
    for label in ("می\u200cخواهم", "👩\u200d🚀", "é" * 100):
        assert correct(server, some, label).label == label


def test_another_feature_or_bundle_is_refused(server: Running, bundle: Bundle) -> None:
    stale = failure(server.feature.SetLabel, SetLabelRequest(id=1, bundle_version="a" * 64, label="x"))
    assert (stale.code, stale.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FEATURE_OF_ANOTHER_BUNDLE")
    none = failure(server.feature.SetLabel, SetLabelRequest(id=1 << 31, bundle_version=bundle.version, label="x"))
    assert none.code is grpc.StatusCode.NOT_FOUND


def test_only_so_many_are_kept(server: Running, some: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LABELS", 1)
    correct(server, some, "one")
    other = 0 if some else 1
    request = SetLabelRequest(id=other, bundle_version=version(server), label="x")
    failed = failure(server.feature.SetLabel, request)
    assert (failed.code, failed.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_LABELS")
    assert correct(server, some, "two").label == "two"
    correct(server, some, "")
    assert correct(server, other, "x").label == "x"
    correct(server, other, "")


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    valkey = EmbeddedValkey.start(tmp_path / "shared")
    yield valkey.url
    valkey.stop()


def test_every_server_sees_it_and_the_next_start_too(bundle_dir: Path, tmp_path: Path, redis_url: str) -> None:
    settings = [settings_for(tmp_path / name, bundle_dir, redis_url=redis_url) for name in ("a", "b")]
    with serving(settings[0]) as one:
        with serving(settings[1]) as other:
            automatic = feature(other, 3).label
            correct(one, 3, "seen", "ada")
            assert until(other, 3, "seen").correction.author == "ada"
            correct(other, 3, "")
            assert until(one, 3, automatic).label == automatic
            correct(other, 3, "kept")
        until(one, 3, "kept")
    with serving(settings[1]) as other:
        assert feature(other, 3).label == "kept"


def test_without_the_store_labels_stay_and_none_is_corrected(bundle_dir: Path, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, bundle_dir)) as server:
        correct(server, 2, "kept")
        pid = int((tmp_path / "valkey" / "valkey.pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            request = SetLabelRequest(id=2, bundle_version=version(server), label="lost")
            failed = failure(server.feature.SetLabel, request)
            assert (failed.code, failed.reason) == (grpc.StatusCode.UNAVAILABLE, "SESSION_STORE_UNAVAILABLE")
            assert feature(server, 2).label == "kept"
        finally:
            os.kill(pid, signal.SIGCONT)


def kept_by(redis_url: str, change: Callable[[LabelStore], Awaitable[Any]]) -> Any:
    """What `change` gives, of the store as a server of another bundle would use it."""

    async def use() -> Any:
        store = SessionStore(redis_url, max_events=1, ttl_seconds=9.0, timeout_seconds=20.0, metrics=Metrics())
        try:
            return await change(LabelStore(store))
        finally:
            await store.close()

    return asyncio.run(use())


def test_a_correction_is_carried_to_the_feature_that_does_the_same(
    bundle_dir: Path, tmp_path: Path, redis_url: str
) -> None:
    """From a bundle that has the same features in another order."""
    folder = Path(shutil.copytree(bundle_dir, tmp_path / "bundles" / bundle_dir.name))
    swapped = swapped_beside(folder)
    last, steerable = feature_count(folder) - 1, steerable_of(folder)
    first, second, third = (last - here for here in steerable[:3])

    async def put(store: LabelStore) -> None:
        for there, label in ((first, "First"), (second, "Second"), (third, "Third"), (last + 5, "None")):
            correction = Feature(id=there, label=label, correction=LabelCorrection(author="ada"))
            await store.put(Corrected(swapped.name, there), correction)
        await store.put(Corrected("a" * 64, first), Feature(label="Of a bundle that is gone"))
        await store.put(Corrected(folder.name, last + 5), Feature(label="Of a feature that is none"))
        never = LabelCorrection(time=Timestamp(seconds=1 << 60))
        await store.put(Corrected(folder.name, steerable[4]), Feature(label="At no time", correction=never))

    kept_by(redis_url, put)
    with serving(settings_for(tmp_path / "after", folder, redis_url=redis_url)) as server:
        here = feature(server, last - first)
        assert (here.label, here.correction.author) == ("First", "ada")
        assert 0.9 < here.correction.carried_confidence <= 1
        assert here.correction.automatic_label not in ("", "First")
        corrected = [one for one in range(last + 1) if feature(server, one).HasField("correction")]
        assert sorted(corrected) == sorted(last - there for there in (first, second, third))
        # A control on the old feature is called as people call it.
        old = FeatureRef(id=first, bundle_version=swapped.name)
        control = Control(feature=old, operation=OPERATION_ADD, strength=0.5)
        (applied,) = server.recommendation.Recommend(RecommendRequest(controls=[control])).applied_controls
        assert (applied.display_name, applied.edits[0].label) == ("First", "First")
        # One that is made here comes before one that is carried, and an automatic label takes both away.
        assert correct(server, last - second, "Own").correction.carried_confidence == 0
        assert not correct(server, last - third, "").HasField("correction")
    kept = kept_by(redis_url, lambda store: store.read("")).corrections
    assert {corrected.feature: each.label for corrected, each in kept.items() if corrected.version == swapped.name} == {
        first: "First",
        second: "Second",
        last + 5: "None",
    }


def test_a_correction_is_carried_to_no_other_meaning(bundle_dir: Path, tmp_path: Path, redis_url: str) -> None:
    """Features whose top items have nothing in common are not counterparts, however alike their scores are."""
    folder = Path(shutil.copytree(bundle_dir, tmp_path / "bundles" / bundle_dir.name))
    other = Path(shutil.copytree(folder, folder.parent / "other"))
    features = pq.read_table(other / "features.parquet")
    place = features.column_names.index("top_items")
    moved = [[(row + 30) % 60 for row in rows or ()] for rows in features["top_items"].to_pylist()]
    whole = [
        set(rows or ()).isdisjoint(new) for rows, new in zip(features["top_items"].to_pylist(), moved, strict=True)
    ]
    pq.write_table(features.set_column(place, "top_items", pa.array(moved)), other / "features.parquet")
    other = signed(other)
    (chosen, *_) = [one for one in steerable_of(folder) if whole[one]]
    with serving(settings_for(tmp_path / "before", other, redis_url=redis_url)) as server:
        correct(server, chosen, "Another")
    with serving(settings_for(tmp_path / "after", folder, redis_url=redis_url)) as server:
        assert not [one for one in range(feature_count(folder)) if feature(server, one).HasField("correction")]


def feature_count(folder: Path) -> int:
    return int(pq.read_table(folder / "features.parquet").num_rows)


def steerable_of(folder: Path) -> list[int]:
    table = pq.read_table(folder / "features.parquet")
    found: list[int] = np.flatnonzero(table["steerable"].to_numpy(zero_copy_only=False)).tolist()
    return found
