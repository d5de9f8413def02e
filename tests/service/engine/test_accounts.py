"""The parts of an account sum to the score that the engine gives, whatever the history, the edits, the backend and the hook."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_service.bundle.bundle import Array, Bundle, load_bundle
from steersman_service.engine import accounts
from steersman_service.engine.engine import Engine
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.history import HistoryReader
from steersman_service.engine.request import Account, AccountQuery, Cost, Edits, EngineRequest, EngineResult
from tests.service.engine.test_engine import BACKENDS, backend_of

# add, set, scale, ablate: gains.
GAINS = [1.0, 0.0, 2.0, 0.0]


class Cell(NamedTuple):
    """An engine, and where its hook is."""

    engine: Engine
    is_query: bool

    @property
    def bundle(self) -> Bundle:
        return self.engine.bundle


@pytest.fixture(scope="module", params=[(backend, below) for backend in BACKENDS for below in (False, True)])
def cell(request: pytest.FixtureRequest, bundle_dir: Path, below_the_last_block: Path) -> Cell:
    backend, below = request.param
    folder = below_the_last_block if below else bundle_dir
    bundle = load_bundle(folder, "torch" if backend == "torch" else "onnx")
    graphs = Graphs(bundle, backend_of(bundle, backend))
    return Cell(Engine(graphs, history=HistoryReader(graphs, state_bytes=1 << 20)), not below)


def asked(bundle: Bundle, rng: np.random.Generator, *, edits: bool = True, top: int = 5) -> EngineRequest:
    """A request with edits of up to four controls, some of several edits and some on the same feature."""
    shape = bundle.manifest.shape
    count = int(rng.integers(1, 8)) if edits else 0
    features = rng.choice(rng.integers(shape.features, size=4), count)
    kinds = rng.integers(4, size=count)
    strengths = np.where(kinds < 2, rng.uniform(-2, 2, count), 0)
    return EngineRequest(
        rng.integers(shape.items, size=rng.integers(bundle.manifest.window.length + 1)),
        Edits(features, np.array(GAINS)[kinds].astype(np.float32), strengths.astype(np.float32)),
        k=shape.items,
        account=AccountQuery(rng.integers(shape.items, size=7), np.sort(rng.integers(4, size=count)), 4, top),
    )


def sums(account: Account) -> Array:
    parts = account.amounts_RJ.sum(1) + account.other_R + account.unexplained_R + account.biases_R
    return np.asarray(parts + account.controls_RM.sum(1))


def account_of(result: EngineResult) -> Account:
    assert result.account is not None
    return result.account


def assert_sums(request: EngineRequest, result: EngineResult) -> None:
    """To the score of the account, and to that of the list."""
    account, query = account_of(result), request.account
    assert query is not None
    scale = max(1.0, float(np.abs(result.scores_K).max()))
    np.testing.assert_allclose(sums(account), account.scores_R, atol=1e-5 * scale)
    scores = dict(zip(result.rows_K.tolist(), result.scores_K.tolist(), strict=True))
    np.testing.assert_allclose(account.scores_R, [scores[row] for row in query.rows_R.tolist()], atol=1e-5 * scale)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 5), top=st.integers(1, 70))
def test_parts_sum_to_the_score_alone_and_in_a_batch(cell: Cell, seed: int, size: int, top: int) -> None:
    rng = np.random.default_rng(seed)
    batch = [asked(cell.bundle, rng, edits=rng.random() < 0.7, top=top) for _ in range(size)]
    batch.insert(int(rng.integers(size + 1)), asked(cell.bundle, rng)._replace(account=None))
    for request, result in zip(batch, cell.engine.run(batch), strict=True):
        if request.account is None:
            assert result.account is None
            continue
        assert_sums(request, result)
        account = account_of(result)
        alone = account_of(cell.engine.run([request])[0])
        np.testing.assert_allclose(account.controls_RM, alone.controls_RM, atol=1e-3)
        np.testing.assert_allclose(account.activations_F, alone.activations_F, atol=1e-3)


def test_controls_get_what_their_edits_change(cell: Cell) -> None:
    """Each alone, where scores are linear and no two name one feature; together, what all of them change anywhere."""
    rng = np.random.default_rng(3)
    for _ in range(5):
        request = asked(cell.bundle, rng)
        assert request.account is not None
        owners_E = np.arange(len(request.edits.features_E))
        features_E = rng.choice(cell.bundle.manifest.shape.features, len(owners_E), replace=False)
        query = request.account._replace(owners_E=owners_E, controls=len(owners_E))
        request = request._replace(edits=request.edits._replace(features_E=features_E), account=query)
        none, one = Edits(*(part[:0] for part in request.edits)), np.zeros(1, np.int64)
        query = query._replace(owners_E=owners_E[:0], controls=0)
        plain = request._replace(edits=none, account=query)
        alone = [
            request._replace(
                edits=Edits(*(part[edit : edit + 1] for part in request.edits)),
                account=query._replace(owners_E=one, controls=1),
            )
            for edit in range(len(owners_E))
        ]
        before, after, *each = (account_of(result) for result in cell.engine.run([plain, request, *alone]))
        scale = max(1.0, float(np.abs(after.scores_R).max()))
        change_R = after.scores_R - before.scores_R
        np.testing.assert_allclose(after.controls_RM.sum(1), change_R, atol=1e-5 * scale)
        if cell.is_query:
            changes_RM = np.stack([one.scores_R - before.scores_R for one in each], axis=1)
            np.testing.assert_allclose(after.controls_RM, changes_RM, atol=1e-5 * scale)
        # Features are told as they were before any edit.
        np.testing.assert_allclose(after.amounts_RJ, before.amounts_RJ, atol=1e-4 * scale)
        np.testing.assert_array_equal(after.features_RJ, before.features_RJ)


def test_controls_on_one_feature_share_its_change_in_their_order(cell: Cell) -> None:
    """Doubled, then ablated: the second takes away what the first has added, and what was there."""
    rng = np.random.default_rng(5)
    plain = asked(cell.bundle, rng, edits=False)
    assert plain.account is not None
    feature = int(account_of(cell.engine.run([plain])[0]).taste_J[0])
    doubled, ablated = 2.0, 0.0
    edits = Edits(np.full(2, feature), np.array([doubled, ablated], np.float32), np.zeros(2, np.float32))
    request = plain._replace(edits=edits, account=plain.account._replace(owners_E=np.arange(2), controls=2, top=64))
    result = cell.engine.run([request])[0]
    account = account_of(result)
    assert_sums(request, result)
    own_R = (account.amounts_RJ * (account.features_RJ == feature)).sum(1)
    assert np.abs(own_R).max() > 1e-3
    if cell.is_query:
        np.testing.assert_allclose(account.controls_RM, np.stack([own_R, -2 * own_R], axis=1), atol=1e-5)


def test_anchored_features_are_in_no_account_before_edits(cell: Cell) -> None:
    kinds = np.array(cell.bundle.features["kind"].to_pylist())
    anchored = np.flatnonzero(kinds == "anchored")
    assert len(anchored)
    rng, seen = np.random.default_rng(0), 0
    for _ in range(20):
        account = account_of(cell.engine.run([asked(cell.bundle, rng, top=100)])[0])
        seen += int((account.activations_F[anchored] > 0).sum())
        assert not np.isin(account.features_RJ, anchored).any()
        assert not np.isin(account.taste_J, anchored).any()
    assert seen  # they are active all the same


def test_an_ablated_anchored_feature_shows_as_its_control(cell: Cell) -> None:
    """What it adds is the change of its own activation, which no account has otherwise."""
    anchored = [row for row, kind in enumerate(cell.bundle.features["kind"].to_pylist()) if kind == "anchored"]
    plain = asked(cell.bundle, np.random.default_rng(8), edits=False)
    assert plain.account is not None
    query = plain.account._replace(owners_E=np.zeros(1, np.int64), controls=1)
    edits = Edits(np.array(anchored[:1]), np.ones(1, np.float32), np.ones(1, np.float32))
    before, after = (account_of(r) for r in cell.engine.run([plain, plain._replace(edits=edits, account=query)]))
    change_R = after.scores_R - before.scores_R
    assert np.abs(change_R).max() > 1e-3
    np.testing.assert_allclose(after.controls_RM[:, 0], change_R, atol=1e-4)


def test_shares_of_the_spread_are_covariances_over_all_items(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed item by item, with all items asked for."""
    monkeypatch.setattr(accounts, "ITEMS_TOGETHER", 7)
    size = cell.bundle.manifest.shape.items
    request = asked(cell.bundle, np.random.default_rng(1), edits=False)
    query = AccountQuery(np.arange(size), top=64)
    account = account_of(Engine(cell.engine.graphs).run([request._replace(account=query)])[0])
    variance = account.scores_R.var()
    of_feature = {
        feature: np.cov((account.amounts_RJ * (account.features_RJ == feature)).sum(1), account.scores_R, ddof=0)[0, 1]
        for feature in account.taste_J.tolist()
    }
    np.testing.assert_allclose(
        account.shares_J, [of_feature[f] / variance for f in account.taste_J.tolist()], atol=1e-4
    )
    assert (np.diff(account.shares_J) <= 0).all()
    rest = np.cov(account.unexplained_R + account.biases_R, account.scores_R, ddof=0)[0, 1] / variance
    assert account.unexplained_share == pytest.approx(rest, abs=1e-4)
    assert account.shares_J.sum() + account.unexplained_share == pytest.approx(1)


def test_activations_alone(cell: Cell) -> None:
    request = asked(cell.bundle, np.random.default_rng(2), edits=False)
    whole = account_of(cell.engine.run([request])[0])
    alone = account_of(cell.engine.run([request._replace(account=AccountQuery(top=0))])[0])
    np.testing.assert_allclose(alone.activations_F, whole.activations_F, atol=1e-4)
    assert len(alone.scores_R) == len(alone.taste_J) == 0
    scale_F = cell.bundle.features["scale"].to_numpy()
    assert (alone.activations_F[scale_F == 0] == 0).all()


def test_the_path_goes_through_upper_in_parts(below_the_last_block: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = load_bundle(below_the_last_block, "onnx")
    engine = Engine(Graphs(bundle, backend_of(bundle, "onnx")))
    request = asked(bundle, np.random.default_rng(4))
    whole = account_of(engine.run([request])[0])
    monkeypatch.setattr(accounts, "STATES_TOGETHER", 3)
    parts = account_of(engine.run([request])[0])
    for one, other in zip(whole[4:], parts[4:], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_what_an_account_costs(cell: Cell) -> None:
    request = asked(cell.bundle, np.random.default_rng(6))
    plain = cell.engine.cost(request._replace(account=None))
    more = np.subtract(cell.engine.cost(request), plain)
    through_upper = 0 if cell.is_query else len(request.ids_T) * (cell.bundle.manifest.autoencoder.active + 4)
    assert Cost(*more.tolist()) == Cost(1, through_upper, 0, 0)
