"""An exact index finds what the plain scan of the item table finds; an approximate one most of it, and nothing that may not be returned."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman.v1.bundle_pb2 import Manifest
from steersman.v1.control_pb2 import OPERATION_ADD, AttributeRef, Control
from steersman.v1.recommendation_service_pb2 import AttributeFilter, Filters, History, RecommendRequest
from steersman_service.bundle.bundle import LISTS, SCAN, SCAN_DATA, Array, Bundle, load_bundle
from steersman_service.engine.backends.onnx import OnnxBackend
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.index import large as index_large
from steersman_service.engine.index.exact import Terms
from steersman_service.engine.index.large import LargeIndex
from steersman_service.engine.index.scan import Scan
from steersman_service.errors import BundleError
from steersman_training.bundle.bundle import name_files
from steersman_training.bundle.index import ItemVectors, write_lists, write_scan
from tests.service.bundle.test_bundle import resign
from tests.service.engine.test_engine import assert_same, random_work
from tests.serving import serving, settings_for

SIZE, HIDDEN, QUERIES = 3000, 24, 40


def clustered(rng: np.random.Generator) -> tuple[Array, Array]:
    """Items around a hundred centres, and queries that are like items."""
    centres = rng.standard_normal((100, HIDDEN))
    items_ND = centres[rng.integers(100, size=SIZE)] + 0.4 * rng.standard_normal((SIZE, HIDDEN))
    queries_QD = 2 * items_ND[rng.integers(SIZE, size=QUERIES)] + rng.standard_normal((QUERIES, HIDDEN))
    return items_ND.astype(np.float32), queries_QD.astype(np.float32)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A catalogue of 3,000 items with an index, without anything else. Some items are there twice: their scores are equal."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("large")
    items_ND, queries_QD = clustered(rng)
    items_ND[SIZE // 2 : SIZE // 2 + 50] = items_ND[:50]
    biases_N = rng.normal(0, 0.3, SIZE).astype(np.float32)
    biases_N[SIZE // 2 : SIZE // 2 + 50] = biases_N[:50]
    catalogue = ItemVectors(items_ND, biases_N)
    write_scan(catalogue, folder)
    manifest = Manifest(index=write_lists(catalogue, {"plain": queries_QD}, folder))
    name_files(manifest, folder)
    golden = {"search": {"query_BD": queries_QD[:8]}}
    return Bundle(folder, manifest, items_ND, biases_N, pa.table({}), pa.table({}), pa.table({}), golden)


@pytest.fixture(scope="module")
def exact(large: Bundle) -> LargeIndex:
    return LargeIndex(large, OnnxBackend(large, 1), 1, approximate=False)


@pytest.fixture(scope="module")
def approximate(large: Bundle) -> LargeIndex:
    return LargeIndex(large, OnnxBackend(large, 1), 1, approximate=True)


def random_terms(rng: np.random.Generator, *, tilted: bool) -> Terms:
    """Everything may be returned, or a share, or a handful, or nothing; but for some."""
    share = rng.choice([1.0, 0.5, 0.1, 0.002, 0.0])
    return Terms(
        None if share == 1 else rng.random(SIZE) < share,
        rng.choice(SIZE, rng.choice([0, 3, 100]), replace=False),
        rng.uniform(-3, 3, SIZE).astype(np.float32) if tilted else None,
    )


def plain_scores(bundle: Bundle, query_D: Array, terms: Terms) -> Array:
    """The plain scan: of everything, minus infinity for what may not be returned."""
    scores_N = bundle.items_ND @ query_D + bundle.biases_N
    if terms.tilts_N is not None:
        scores_N = scores_N + terms.tilts_N
    mask_N = terms.mask(SIZE)
    return scores_N if mask_N is None else np.where(mask_N, scores_N, -np.inf)


def find(index: LargeIndex, queries_BD: Array, terms: list[Terms], ks: list[int]) -> list[tuple[Array, Array]]:
    """What is found for each query: rows and scores, its own k of them at most."""
    found = index.search(index._backend.put(queries_BD), terms, ks)
    rows_BK, scores_BK = found
    assert rows_BK.shape == scores_BK.shape == (len(ks), max(ks))
    assert ((rows_BK >= 0) & (rows_BK < SIZE)).all()
    real = [scores_K > -np.inf for scores_K in scores_BK]
    return [(rows_BK[place][real[place]][:k], scores_BK[place][real[place]][:k]) for place, k in enumerate(ks)]


@pytest.mark.parametrize("few", [0, 100])
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 4))
def test_the_exact_index_finds_what_the_plain_scan_finds(
    large: Bundle, exact: LargeIndex, few: int, seed: int, size: int
) -> None:
    rng = np.random.default_rng(seed)
    queries_BD = (rng.choice([0.0, 1e-3, 1.0, 30.0], (size, 1)) * rng.standard_normal((size, HIDDEN))).astype(
        np.float32
    )
    terms = [random_terms(rng, tilted=rng.random() < 0.5) for _ in range(size)]
    ks = [int(rng.choice([1, 7, 20, 300, SIZE])) for _ in range(size)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_large, "FEW", few)
        answers = find(exact, queries_BD, terms, ks)
    for query_D, own, k, (rows_K, scores_K) in zip(queries_BD, terms, ks, answers, strict=True):
        scores_N = plain_scores(large, query_D, own)
        wanted = np.lexsort((np.arange(SIZE), -scores_N))[: min(k, int((scores_N > -np.inf).sum()))]
        tolerance = 1e-5 * max(1.0, float(np.abs(scores_N[wanted]).max(initial=0)))
        assert len(rows_K) == len(wanted)
        assert len({*rows_K.tolist()}) == len(rows_K)
        np.testing.assert_allclose(scores_K, scores_N[wanted], atol=tolerance)
        np.testing.assert_allclose(scores_K, scores_N[rows_K], atol=tolerance)
        ties = np.flatnonzero(np.diff(scores_K) == 0)
        assert (rows_K[ties] < rows_K[ties + 1]).all(), "equal scores by row"


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 100.0]))
def test_no_estimate_is_further_from_the_truth_than_the_scan_says(
    large: Bundle, exact: LargeIndex, seed: int, scale: float
) -> None:
    query_D = (scale * np.random.default_rng(seed).standard_normal(HIDDEN)).astype(np.float32)
    estimates_N, error = exact._scan.estimates(query_D)
    scores_N = large.items_ND.astype(np.float64) @ query_D + large.biases_N
    assert np.abs(estimates_N - scores_N).max() <= error
    assert error <= 0.1 * max(1e-3, float(np.abs(scores_N).max())), "and it says something"


@pytest.mark.parametrize("size", [(1, 3), (40, 16), (700, 130), (300, 300)])
def test_items_of_any_width_are_scanned(tmp_path: Path, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    items_ND = rng.standard_normal(size).astype(np.float32)
    items_ND[::7] = 0
    biases_N = rng.standard_normal(len(items_ND)).astype(np.float32)
    write_scan(ItemVectors(items_ND, biases_N), tmp_path)
    empty, manifest = pa.table({}), Manifest()
    name_files(manifest, tmp_path)
    scan = Scan(Bundle(tmp_path, manifest, items_ND, biases_N, empty, empty, empty, {}), 1)
    query_D = rng.standard_normal(size[1]).astype(np.float32)
    estimates_N, error = scan.estimates(query_D)
    assert np.abs(estimates_N - (items_ND @ query_D + biases_N)).max() <= error


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_approximate_index_gives_as_many_as_there_are_and_none_that_may_not_be_returned(
    large: Bundle, approximate: LargeIndex, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    queries_BD = rng.standard_normal((3, HIDDEN)).astype(np.float32)
    terms = [random_terms(rng, tilted=False) for _ in range(3)]
    ks = rng.choice([1, 20, 200, SIZE], 3).tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_large, "FEW", 20)
        together = find(approximate, queries_BD, terms, ks)
        alone = [find(approximate, queries_BD[[row]], [terms[row]], [ks[row]])[0] for row in range(3)]
    for query_D, own, k, (rows_K, scores_K), (alone_K, _) in zip(queries_BD, terms, ks, together, alone, strict=True):
        scores_N = plain_scores(large, query_D, own)
        assert len(rows_K) == min(k, int((scores_N > -np.inf).sum()))
        np.testing.assert_allclose(scores_K, scores_N[rows_K], rtol=1e-5, atol=1e-5)
        assert (np.diff(scores_K) <= 0).all()
        assert rows_K.tolist() == alone_K.tolist(), "no request decides how far the search for another one goes"


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_the_approximate_index_finds_nearly_all_of_the_best(
    large: Bundle, approximate: LargeIndex, share: float
) -> None:
    rng = np.random.default_rng(7)
    _, queries_QD = clustered(np.random.default_rng(0))
    terms = Terms(None if share == 1 else rng.random(SIZE) < share, rng.choice(SIZE, 30, replace=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_large, "FEW", 20)
        answers = find(approximate, queries_QD, [terms] * QUERIES, [20] * QUERIES)
    wanted = [np.argsort(-plain_scores(large, query_D, terms))[:20] for query_D in queries_QD]
    recall = np.mean([np.isin(best, rows_K).mean() for best, (rows_K, _) in zip(wanted, answers, strict=True)])
    assert recall >= 0.97
    (first, *_) = large.manifest.index.efforts
    assert first.depth == 20
    assert first.recall["plain"] >= 0.99
    assert first.probes < large.manifest.index.lists / 2, "not by looking at everything"


def test_lists_of_other_items_are_refused(large: Bundle, tmp_path: Path) -> None:
    for name in (SCAN, SCAN_DATA):
        shutil.copy(large.folder / name, tmp_path)
    others, queries_QD = clustered(np.random.default_rng(5))
    write_lists(ItemVectors(others, large.biases_N), {"plain": queries_QD}, tmp_path)
    elsewhere = moved(large, tmp_path)
    with pytest.raises(BundleError, match=r"index\.faiss: finds .* of other items"):
        LargeIndex(elsewhere, OnnxBackend(elsewhere, 1), 1, approximate=True)
    write_scan(ItemVectors(others, large.biases_N), tmp_path)
    elsewhere = moved(large, tmp_path)
    with pytest.raises(BundleError, match=r"scan\.onnx: is wrong by up to"):
        LargeIndex(elsewhere, OnnxBackend(elsewhere, 1), 1, approximate=False)


def moved(bundle: Bundle, folder: Path) -> Bundle:
    """The same with the files of another folder."""
    manifest = Manifest()
    manifest.CopyFrom(bundle.manifest)
    name_files(manifest, folder)
    return dataclasses.replace(bundle, folder=folder, manifest=manifest)


@pytest.fixture(scope="module")
def indexed_dir(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle, with an index as export would add it, but that it looks at everything."""
    folder = Path(shutil.copytree(bundle_dir, tmp_path_factory.mktemp("indexed") / "bundle"))
    catalogue = ItemVectors(np.load(folder / "items.npy"), np.load(folder / "biases.npy"))
    write_scan(catalogue, folder)
    with np.load(folder / "golden.npz") as golden:
        index = write_lists(catalogue, {"plain": golden["search.query_BD"]}, folder)
    for effort in index.efforts:
        effort.probes = index.lists

    def describe(manifest: dict[str, Any]) -> None:
        manifest["index"] = json_format.MessageToDict(index, preserving_proto_field_name=True)

    document = json.loads((folder / "manifest.json").read_text())
    document["files"] |= {name: {} for name in (SCAN, SCAN_DATA, LISTS)}
    (folder / "manifest.json").write_text(json.dumps(document))
    resign(folder, describe)
    return folder


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("approximate", [True, False])
def test_an_engine_with_an_index_answers_as_one_without(indexed_dir: Path, backend: str, approximate: bool) -> None:
    bundle = load_bundle(indexed_dir, backend)
    graphs = Graphs(bundle, load_backend(bundle, backend, "cpu", 1))
    index = LargeIndex(bundle, graphs.backend, 1, approximate=approximate)
    plain, indexed = Engine(graphs), Engine(graphs, index=index)
    rng = np.random.default_rng(3)
    batch = [random_work(bundle, rng, jumps=False) for _ in range(24)]
    together = indexed.run(batch)
    for work, answer, wanted in zip(batch, together, plain.run(batch), strict=True):
        assert_same(answer, indexed.run([work])[0], 1e-5)
        assert_same(answer, wanted, 1e-5)


@pytest.mark.parametrize("search", ["auto", "exact"])
def test_a_bundle_with_an_index_is_served(indexed_dir: Path, tmp_path: Path, search: str) -> None:
    bundle = load_bundle(indexed_dir, "onnx")
    graphs = Graphs(bundle, load_backend(bundle, "onnx", "cpu", 1))
    tilt = Control(attribute=AttributeRef(name="genres", value="Horror"), operation=OPERATION_ADD, strength=3.0)
    genres = [values or [] for values in bundle.items["genres"].to_pylist()]
    crime = Filters(attributes=[AttributeFilter(attribute="genres", any_of=["Crime"])])
    with serving(settings_for(tmp_path, indexed_dir, search=search)) as server:
        for filters, controls in ((Filters(), []), (crime, []), (Filters(), [tilt]), (Filters(include_seen=True), [])):
            history = History(item_ids=["103", "110", "121"])
            request = RecommendRequest(history=history, k=10, filters=filters, controls=controls)
            answer = server.recommendation.Recommend(request)
            rows_T = np.array([bundle.items["item_id"].to_pylist().index(item) for item in history.item_ids])
            pool = graphs.replay("lower", {"ids_BT": rows_T[None], "lengths_B": np.array([3])})
            scores_N = bundle.items_ND @ pool["h_BD"][0] + bundle.biases_N
            scores_N += [3.0 * ("Horror" in values and bool(controls)) for values in genres]
            allowed_N = np.array(["Crime" in values or filters is not crime for values in genres])
            if not filters.include_seen:
                allowed_N[rows_T] = False
            wanted = np.sort(scores_N[allowed_N])[::-1][:10]
            np.testing.assert_allclose([item.score for item in answer.items], wanted, rtol=1e-4, atol=1e-4)
            assert answer.eligible_items == allowed_N.sum()


def test_a_spoilt_index_is_refused(indexed_dir: Path, tmp_path: Path) -> None:
    def load() -> None:
        bundle = load_bundle(folder, "onnx")
        LargeIndex(bundle, load_backend(bundle, "onnx", "cpu", 1), 1, approximate=True)

    def refused(name: str, why: str) -> None:
        with pytest.raises(BundleError, match=why) as caught:
            load()
        assert caught.value.file == name

    folder = tmp_path / "bundle"
    for name in (SCAN, SCAN_DATA, LISTS):
        shutil.copytree(indexed_dir, folder)
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        refused(name, "checksum differs")
        (folder / name).unlink()
        refused(name, "is missing")
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(manifest))
        resign(folder, lambda manifest, name=name: manifest["files"].pop(name))  # type: ignore[misc]
        refused(name, "not among the files")
        shutil.rmtree(folder)
    shutil.copytree(indexed_dir, folder)
    (folder / LISTS).write_bytes(b"nothing of the kind")
    resign(folder)
    refused(LISTS, "faiss does not read it")
    (folder / SCAN).write_bytes(b"nothing of the kind")
    resign(folder)
    refused(SCAN, "does not load it")
    shutil.rmtree(folder)
    shutil.copytree(indexed_dir, folder)
    resign(folder, lambda manifest: manifest["index"].pop("efforts"))
    refused("manifest.json", "does not say how")


def test_a_request_without_filters_brings_nothing_as_large_as_the_catalogue(approximate: LargeIndex) -> None:
    assert Terms().mask(10**12) is None
