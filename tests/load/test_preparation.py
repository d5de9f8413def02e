"""What a load test reads of a server before it begins."""

from pathlib import Path

from tests.load.running import prepared
from tests.service.bundle.kinds import LAST, RARE_STEERABLE, STEERABLE, with_kinds
from tests.serving import serving, settings_for


def test_features_that_are_rare_are_steered_too(bundle_dir: Path, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, with_kinds(bundle_dir, tmp_path))) as server:
        scenario = prepared(f"127.0.0.1:{server.ports.grpc}", None)
    assert {RARE_STEERABLE, *STEERABLE, *LAST} <= set(scenario.features)
