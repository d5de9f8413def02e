"""What several tests of training share."""

from pathlib import Path

import pytest

from tests.training.controlled import Controlled, train_controlled


@pytest.fixture(scope="session")
def controlled(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Controlled:
    """A recommender of 60 items, with 64 discovered features, and an anchored one and a concept for each of seven aims."""
    return train_controlled(data_dir, tmp_path_factory.mktemp("controlled"))
