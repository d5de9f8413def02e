"""What tests of whole servers share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def current(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A link to a copy of the bundle, which a test may turn elsewhere."""
    folder = tmp_path_factory.mktemp("bundles")
    link = folder / "current"
    link.symlink_to(shutil.copytree(bundle_dir, folder / "first"))
    return link
