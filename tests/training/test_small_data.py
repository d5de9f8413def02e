"""Small data: what can be trained on gives a bundle, what cannot is refused before training, with what is needed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from steersman_service.bundle.bundle import load_bundle
from steersman_service.engine.backends.protocol import load_backend
from steersman_service.engine.engine import Engine
from steersman_service.engine.golden import replay_golden
from steersman_service.engine.graphs import Graphs
from steersman_service.engine.request import EngineRequest
from steersman_training import pipeline
from steersman_training.autoencoder.sae import SaeConfig, SparseAutoencoder, centroids
from steersman_training.catalogue.concepts import ConceptConfig
from steersman_training.data import DataError, Dataset, load
from steersman_training.pipeline import TrainConfig, Trained, train
from steersman_training.recommender.fit import Fit, FitConfig, Progress
from steersman_training.recommender.model import RecommenderConfig
from tests.conftest import Silent

CPU = torch.device("cpu")
CONFIG = TrainConfig(
    RecommenderConfig(hidden=16, window_length=20, window_stride=5),
    FitConfig(epochs=1, events_per_batch=400, precision="float32"),
    SaeConfig(features=64, active=32, epochs=2),
    ConceptConfig(),
)


def shop(folder: Path, items: int, users: int, events: int, stride: int = 1) -> Dataset:
    """Users who each met so many items, one after the other."""
    rows = [
        (f"u{user:03d}", f"i{(user + stride * time) % items:03d}", time)
        for user in range(users)
        for time in range(events)
    ]
    file = folder / "shop.csv"
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(file)
    return load(str(file), cache=folder)


@pytest.fixture
def unwritten(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, dict[str, torch.Tensor]]]:
    """Bundles are not written, which takes longest; their golden rows are here."""
    golden: list[dict[str, dict[str, torch.Tensor]]] = []

    def write(
        out: Path, manifest: object, graphs: object, rows: dict[str, dict[str, torch.Tensor]], *_: object
    ) -> Path:
        golden.append(rows)
        return out

    monkeypatch.setattr(pipeline, "write_bundle", write)
    return golden


@pytest.mark.parametrize("kind", ["topk", "matryoshka"])
@pytest.mark.parametrize("hook", [None, 0])
@pytest.mark.parametrize(("items", "users", "events"), [(2, 3, 3), (2, 12, 4), (8, 12, 3), (12, 3, 3), (30, 30, 3)])
def test_a_small_shop_is_trained_on(
    unwritten: list[dict[str, dict[str, torch.Tensor]]],
    tmp_path: Path,
    items: int,
    users: int,
    events: int,
    hook: int | None,
    kind: str,
) -> None:
    config = replace(
        CONFIG,
        recommender=replace(CONFIG.recommender, hook=hook),
        sae=replace(CONFIG.sae, kind=kind),  # type: ignore[arg-type]
    )
    trained = train(shop(tmp_path, items, users, events), config, tmp_path, CPU, Silent())
    assert trained.features.height == 64
    assert not any(
        trained.features[name].is_nan().any() for name, kind in trained.features.schema.items() if kind.is_float()
    )
    (golden,) = unwritten
    assert len(golden["lower"]["lengths_B"]) >= 2
    assert golden["lower"]["ids_BT"].shape[1] > 1  # else the exporter takes the length for a constant
    assert golden["search"]["scores_BK"].isfinite().all()


def test_training_says_first_which_values_become_concepts(unwritten: object, tmp_path: Path) -> None:
    class Heard(Silent):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def stage(self, name: str) -> None:
            self.heard.append(name)

        def say(self, line: str) -> None:
            self.heard.append(line)

    heard = Heard()
    data = shop(tmp_path, 12, 24, 4)
    data = replace(data, items=data.items.with_columns(kind=pl.lit(["a"]), size=1.5))
    train(data, replace(CONFIG, min_concept_items=3), tmp_path, CPU, heard)
    first, concepts, not_shared, second = heard.heard[:4]
    assert (first, second) == ("attributes", "recommender")
    assert concepts.startswith("  concepts      co_consumption: ")
    assert not_shared == "  not shared    kind: all 1 value: of fewer than 3 items, or of (nearly) all"


class Recorded(Silent):
    """The last report of each stage."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[int, int]] = {}

    def stage(self, name: str) -> None:
        self.stages[name] = (0, 0)

    def step(self, done: int, total: int) -> None:
        self.stages[list(self.stages)[-1]] = (done, total)

    def recommender(self, progress: object) -> None:
        assert isinstance(progress, Progress)
        self.step(progress.epoch, progress.epochs)

    def sae(self, epoch: int, epochs: int, variance_explained: float) -> None:
        self.step(epoch, epochs)


@pytest.mark.usefixtures("unwritten")
def test_every_stage_says_how_far_it_is(tmp_path: Path) -> None:
    display = Recorded()
    trained = train(shop(tmp_path, 30, 30, 4), CONFIG, tmp_path, CPU, display)
    concepts, features = trained.concepts.height, trained.features.height
    wanted = {
        "recommender": 1,
        "sparse autoencoder": 2,
        "anchored features": concepts,
        "catalogue": features,
        "concepts": concepts,
    }
    shown = [stage for stage in display.stages.items() if stage[0] in wanted]
    assert shown == [(name, (count, count)) for name, count in wanted.items()]
    assert list(display.stages)[-1] == "bundle"
    assert concepts > 0


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The bundle of a shop of 8 items, users with exactly three events."""
    folder = tmp_path_factory.mktemp("eight")
    return train(shop(folder, 8, 24, 3), CONFIG, folder / "bundles", CPU, Silent())


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_the_bundle_of_a_small_shop_is_loaded_and_answers_with_all_that_there_is(eight: Trained, backend: str) -> None:
    bundle = load_bundle(eight.folder, backend)
    graphs = Graphs(bundle, load_backend(bundle, backend, "cpu", 1))
    replay_golden(graphs)
    engine = Engine(graphs)
    for history in ([], [0], [0, 3, 2, 1]):  # longer than any in the data, too
        (answer,) = engine.run([EngineRequest(np.array(history, np.int64), k=20)])
        assert sorted(answer.rows_K.tolist()) == list(range(8))


@pytest.mark.parametrize(
    ("items", "users", "events", "said"),
    [
        (1, 9, 4, "data: 1 item is left; at least 2 are needed"),
        (5, 1, 4, "split: 1 users have events to train on; at least 2 are needed"),
        (5, 2, 3, "events to train on are of 1 item; at least 2 are needed"),
    ],
)
def test_too_little_data_is_refused_before_training(
    tmp_path: Path, items: int, users: int, events: int, said: str
) -> None:
    class NoTraining(Silent):
        def stage(self, name: str) -> None:
            raise AssertionError(name)

    with pytest.raises(DataError, match=said):
        train(shop(tmp_path, items, users, events), CONFIG, tmp_path, CPU, NoTraining())


def test_a_moment_that_leaves_nothing_to_predict_is_refused(tmp_path: Path) -> None:
    data = shop(tmp_path, 5, 9, 4)
    data = replace(data, events=data.events.with_columns(time=pl.lit(7)))
    with pytest.raises(DataError, match="no event is held out to validate on"):
        train(data, replace(CONFIG, split="global-time"), tmp_path, CPU, Silent())


def test_a_recommender_without_a_checkpoint_is_kept_where_a_later_stage_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = shop(tmp_path, 8, 12, 4), tmp_path / "bundles"

    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline, "write_bundle", full)
    with pytest.raises(OSError, match="No space") as failed:
        train(data, CONFIG, out, CPU, Silent())
    (kept,) = out.glob("recommender-*.pt")
    assert failed.value.__notes__ == [
        f"the recommender is kept: the same command with --checkpoint {kept} goes on from there"
    ]
    monkeypatch.setattr(pipeline, "write_bundle", lambda *_: out)
    monkeypatch.setattr(Fit, "_train_epoch", full)  # nothing is trained again
    assert train(data, CONFIG, out, CPU, Silent(), kept).folder == out


def test_where_no_more_features_than_active_are_above_zero_none_is_switched_by_a_jump() -> None:
    torch.manual_seed(0)
    sae = SparseAutoencoder(8, 32, 16)
    h_BD = torch.randn(64, 8)
    above_B = (sae.preactivations(h_BD) > 0).sum(1)
    assert torch.equal(sae.margin(h_BD).isinf(), above_B <= 16)
    assert (sae.margin(h_BD) > 0).all()


def test_features_of_few_states_begin_in_different_directions() -> None:
    states_SD = torch.randn(3, 8, generator=torch.Generator().manual_seed(0)).repeat(5, 1)
    directions_FD = centroids(states_SD, 32)
    likeness_FF = directions_FD @ directions_FD.T - 2 * torch.eye(32)
    assert float(likeness_FF.max()) < 1 - 1e-5
