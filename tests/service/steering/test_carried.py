"""Controls on features of an older bundle: carried by what they did to scores, or refused; never another meaning."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from steersman.v1.control_pb2 import (
    CONTROL_SOURCE_REQUEST,
    OPERATION_ADD,
    OPERATION_SET,
    Control,
    FeatureRef,
    Operation,
)
from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman.v1.session_service_pb2 import AppendEventsRequest, Event, SetControlsRequest
from steersman_service.api.release import Release
from steersman_service.bundle.bundle import load_bundle
from steersman_service.settings import load_settings
from steersman_service.steering import targets
from steersman_service.steering.control import ParsedControl
from steersman_service.steering.shares import subject_of
from tests.service.bundle.test_bundle import resign
from tests.serving import Running, failure, serving, settings_for

GONE = 7
"""Items that the older bundle lacks, the first ones."""


def signed(folder: Path) -> Path:
    """`folder`, resigned and under the name of its version, as a bundle lies."""
    resign(folder)
    return folder.rename(folder.parent / json.loads((folder / "manifest.json").read_text())["version"])


@pytest.fixture(scope="module")
def folder(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("retrained")
    return Path(shutil.copytree(bundle_dir, parent / bundle_dir.name))


@pytest.fixture(scope="module")
def swapped(folder: Path) -> Path:
    return swapped_beside(folder)


def swapped_beside(folder: Path) -> Path:
    """The same features under other ids, beside `folder`; the first items are missing."""
    older = Path(shutil.copytree(folder, folder.parent / "swapped"))
    np.save(older / "decoder.npy", np.load(older / "decoder.npy")[::-1].copy())
    np.save(older / "items.npy", np.load(older / "items.npy")[GONE:])
    pq.write_table(pq.read_table(older / "items.parquet").slice(GONE), older / "items.parquet")
    features = pq.read_table(older / "features.parquet")
    turned = features.take(np.arange(features.num_rows)[::-1])
    tops = [[row - GONE for row in rows or () if row >= GONE] for rows in turned["top_items"].to_pylist()]
    turned = turned.set_column(turned.column_names.index("top_items"), "top_items", pa.array(tops))
    pq.write_table(turned, older / "features.parquet")
    return signed(older)


@pytest.fixture(scope="module")
def release(folder: Path, swapped: Path) -> Release:
    return Release.of(load_bundle(folder, "onnx"), load_settings())


def ask(feature: int, version: str, operation: Operation = OPERATION_ADD, strength: float = 0.5) -> Control:
    reference = FeatureRef(id=feature, bundle_version=version)
    return Control(feature=reference, operation=operation, strength=strength)


def parse(release: Release, control: Control) -> ParsedControl:
    return release.controls.parse("controls", CONTROL_SOURCE_REQUEST, [control]).controls[0]


def added(folder: Path, edits: list[tuple[int, float]], scales_F: np.ndarray) -> dict[str, float]:
    """Item id -> what edits add to its score."""
    step_D = sum(strength * scales_F[f] * np.load(folder / "decoder.npy")[f] for f, strength in edits)
    ids = map(str, pq.read_table(folder / "items.parquet")["item_id"].to_pylist())
    return dict(zip(ids, (np.load(folder / "items.npy") @ step_D).tolist(), strict=True))


def likeness(release: Release, older: Path, feature: int, parsed: ParsedControl) -> float:
    """Correlation over the items of both of what a feature did and what stands for it now."""
    scales = [pq.read_table(each / "features.parquet")["scale"].to_numpy() for each in (older, release.bundle.folder)]
    before = added(older, [(feature, 1.0)], scales[0])
    now = added(release.bundle.folder, [(e.feature_id, e.strength) for e in parsed.applied.edits], scales[1])
    rows = release.items.rows(before)
    weights = release.controls.targets.aims.weights_N[rows]
    covariance = np.cov([list(before.values()), [now[item_id] for item_id in before]], aweights=weights)
    return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def test_no_control_acts_on_another_meaning(release: Release, swapped: Path) -> None:
    features, carried = len(release.catalogue.features), 0
    for feature in range(features):
        parsed = parse(release, ask(feature, swapped.name))
        assert not parsed.problems
        if parsed.stale:
            assert not parsed.applied.edits
            continue
        carried += 1
        assert parsed.applied.carried_confidence >= targets.LEAST_CONFIDENCE
        assert likeness(release, swapped, feature, parsed) == pytest.approx(parsed.applied.carried_confidence, abs=0.01)
        (warning,) = parsed.applied.warnings
        assert f"feature {feature} " in warning
        assert swapped.name[:12] in warning
    assert carried >= 4


def test_an_anchored_feature_is_found_under_its_new_id(release: Release, swapped: Path) -> None:
    count = len(release.catalogue.features)
    for concept in release.catalogue.concepts[:4]:
        feature = concept.terms[0].feature_id
        parsed = parse(release, ask(count - 1 - feature, swapped.name))
        assert parsed.applied.edits[0].feature_id == feature
        assert parsed.applied.edits[0].strength == pytest.approx(
            release.catalogue.feature_units[feature].of(0.5), rel=0.05
        )
        assert parsed.applied.carried_confidence > 0.95


def test_features_of_another_seed_are_carried_or_refused(other_seed: Path, folder: Path, release: Release) -> None:
    other = Path(shutil.copytree(other_seed, folder.parent / other_seed.name))
    steerable = np.flatnonzero(pq.read_table(other / "features.parquet")["steerable"].to_numpy(zero_copy_only=False))
    parsed = [parse(release, ask(int(feature), other.name)) for feature in steerable]
    assert sum(not one.stale for one in parsed) >= len(parsed) / 2
    for feature, one in zip(steerable, parsed, strict=True):
        assert one.stale or likeness(release, other, int(feature), one) >= targets.LEAST_CONFIDENCE - 0.01


@pytest.fixture(scope="module")
def server(folder: Path, swapped: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(settings_for(tmp_path_factory.mktemp("server"), folder)) as running:
        yield running


def test_a_sticky_control_is_carried_and_the_answer_says_so(server: Running, release: Release, swapped: Path) -> None:
    session, feature = (
        uuid4().hex,
        len(release.catalogue.features) - 1 - release.catalogue.concepts[0].terms[0].feature_id,
    )
    events = [Event(event_id="1", item_id="110")]
    server.session.AppendEvents(AppendEventsRequest(session_id=session, events=events))
    server.session.SetControls(SetControlsRequest(session_id=session, controls=[ask(feature, swapped.name)]))
    plain = server.recommendation.Recommend(RecommendRequest(session_id=session, k=60))
    (applied,) = plain.applied_controls
    assert applied.carried_confidence > 0.9
    assert applied.control.feature.bundle_version == swapped.name
    assert applied.edits[0].feature_id == release.catalogue.concepts[0].terms[0].feature_id
    assert "is carried to this bundle" in applied.warnings[0]
    assert applied.display_name == release.catalogue.labels[applied.edits[0].feature_id] != ""
    written = [ask(edit.feature_id, release.version, strength=edit.control_strength) for edit in applied.edits]
    server.session.SetControls(SetControlsRequest(session_id=session, controls=written))
    explicit = server.recommendation.Recommend(RecommendRequest(session_id=session, k=60))
    scores = {item.item_id: item.score for item in explicit.items}
    assert scores == pytest.approx({item.item_id: item.score for item in plain.items}, abs=1e-4)


def test_the_receipt_of_a_carried_control_counts_no_other_feature(
    server: Running, release: Release, swapped: Path
) -> None:
    """Its id names another feature here, which has a value of its own."""
    features = len(release.catalogue.features)
    told = [
        place for place in range(features) if subject_of(ask(place, release.version), release.catalogue, release.items)
    ]
    asked = [ask(place, swapped.name) for place in told]
    for control in asked:
        try:
            answer = server.recommendation.Recommend(RecommendRequest(controls=[control], receipt=True))
        except grpc.RpcError:
            continue  # one that cannot be carried
        (applied,), (receipt,) = answer.applied_controls, answer.receipt.controls
        assert applied.carried_confidence
        assert not receipt.HasField("share_before")
        assert not answer.receipt.HasField("ndcg_kept_estimate")
        break
    else:
        pytest.fail("none was carried")


def test_only_add_is_carried(server: Running, swapped: Path) -> None:
    control = ask(3, swapped.name, OPERATION_SET)
    failed = failure(server.recommendation.Recommend, RecommendRequest(controls=[control]))
    assert failed.code is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("spoil", ["no decoder", "another decoder", "few items"])
def test_what_cannot_be_told_is_refused(folder: Path, swapped: Path, spoil: str) -> None:
    older = Path(shutil.copytree(swapped, folder.parent / spoil.replace(" ", "-")))
    if spoil == "no decoder":
        resign(older, lambda manifest: manifest["files"].pop("decoder.npy"))
        older = older.rename(folder.parent / json.loads((older / "manifest.json").read_text())["version"])
    elif spoil == "another decoder":
        shutil.rmtree(older)
        older = Path(shutil.copytree(swapped, folder.parent / ("e" * 64)))
    else:
        np.save(older / "items.npy", np.load(older / "items.npy")[:9])
        pq.write_table(pq.read_table(older / "items.parquet").slice(0, 9), older / "items.parquet")
        older = signed(older)
    release = Release.of(load_bundle(folder, "onnx"), load_settings())
    assert all(parse(release, ask(feature, older.name)).stale for feature in range(len(release.catalogue.features)))


def test_a_file_that_was_changed_is_not_read(folder: Path, swapped: Path) -> None:
    (swapped / "decoder.npy").rename(swapped / "kept")
    try:
        np.save(swapped / "decoder.npy", np.load(swapped / "kept") * -1)
        release = Release.of(load_bundle(folder, "onnx"), load_settings())
        assert parse(release, ask(2, swapped.name)).stale
    finally:
        (swapped / "kept").rename(swapped / "decoder.npy")
