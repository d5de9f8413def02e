"""A tiny bundle, trained once a run."""

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from tests import synthetic

# Tests talk to servers of their own, whatever proxy the environment names.
os.environ.update(no_proxy="localhost,127.0.0.1,::1", no_grpc_proxy="localhost,127.0.0.1,::1")

if TYPE_CHECKING:
    from steersman_training.autoencoder.sae import Kind
    from steersman_training.bundle.bundle import Publication

# One port of HTTP would be taken by the first of the servers that run side by side. Tests of HTTP say where theirs listens.
os.environ.setdefault("STEERSMAN_HTTP", "off")

# Tests run side by side, and what they train is tiny: a second thread would only wait. Children inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


class Silent:
    """A display that shows nothing."""

    def stage(self, name: str) -> None: ...
    def say(self, line: str) -> None: ...
    def recommender(self, progress: object) -> None: ...
    def sae(self, epoch: int, epochs: int, variance_explained: float) -> None: ...
    def step(self, done: int, total: int) -> None: ...


@pytest.hookimpl(optionalhook=True)  # with -p no:xdist, too
def pytest_xdist_auto_num_workers() -> int:
    """Three for two cores, as far as --maxprocesses allows: servers that start, and end, are waited for without one."""
    return max(1, 3 * (os.cpu_count() or 1) // 2)


@pytest.fixture(scope="session", autouse=True)
def _no_store_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The store of a server that was killed lives on until the next start on its folder."""
    yield
    from steersman_service.sessions.valkey import EmbeddedValkey

    for file in tmp_path_factory.getbasetemp().rglob("valkey.pid"):
        EmbeddedValkey.start(file.parent).stop()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """interactions.parquet and items.parquet."""
    return synthetic.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def bundle_dir(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 60 items, 16 hidden, 64 features, a window of 20 in strides of 5, and a concept for each of four genres,
    solved over the best 40. It is signed by the key `signer` beside it, of passphrase "of the tests"."""

    def make(out: Path) -> Path:
        from steersman_training.bundle.bundle import Publication
        from steersman_training.bundle.signing import make_key

        out.mkdir()
        publication = Publication("CC-BY, *made up* | for tests", make_key(out / "signer", b"of the tests"))
        return make_bundle(data_dir, out, publication=publication)

    return made_once("bundle", tmp_path_factory, make)


@pytest.fixture(scope="session")
def other_seed(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the same data, trained from another seed."""
    return made_once("other_seed", tmp_path_factory, lambda out: make_bundle(data_dir, out, seed=1))


@pytest.fixture(scope="session")
def below_the_last_block(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose hook lies after the first of two blocks. It carries an index."""
    return made_once("below", tmp_path_factory, lambda out: make_bundle(data_dir, out, hook=1, index_from=60))


def made_once(name: str, tmp_path_factory: pytest.TempPathFactory, make: Callable[[Path], Path]) -> Path:
    """What `make` gives for a new folder. Processes that run tests side by side wait for the first one, and share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"once_{name}"
    folder.mkdir(exist_ok=True)
    made = folder / "made"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_text(str(make(folder / "of")))
        return Path(made.read_text())


def make_bundle(
    data_dir: Path,
    out: Path,
    *,
    seed: int = 0,
    hook: int | None = None,
    kind: "Kind" = "topk",
    index_from: int = 1000,
    publication: "Publication | None" = None,
) -> Path:
    """Trains a tiny recommender and writes its bundle; a few seconds. It has an index if `index_from` is at most 60."""
    import torch

    from steersman_training.autoencoder.sae import SaeConfig
    from steersman_training.bundle.bundle import Publication
    from steersman_training.catalogue.concepts import ConceptConfig
    from steersman_training.data import load
    from steersman_training.pipeline import TrainConfig, train
    from steersman_training.recommender.fit import FitConfig
    from steersman_training.recommender.model import RecommenderConfig

    config = TrainConfig(
        RecommenderConfig(hidden=16, window_length=20, window_stride=5, dropout=0.1, hook=hook),
        FitConfig(
            epochs=12, events_per_batch=400, learning_rate=1e-2, evaluate_every=4, precision="float32", seed=seed
        ),
        SaeConfig(features=64, active=8, epochs=20, batch_size=128, dead_after=4000, kind=kind, seed=seed),
        ConceptConfig(candidates=40),
        min_concept_items=5,
        index_from=index_from,
    )
    data = load(str(data_dir), cache=out / "cache")
    return train(data, config, out, torch.device("cpu"), Silent(), None, publication or Publication()).folder


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A command that runs in the test's process writes its log to an output that ends with it."""
    configured, last = structlog.get_config(), logging.lastResort
    yield
    structlog.configure(**configured)
    logging.lastResort = last
