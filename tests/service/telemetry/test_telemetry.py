"""Nothing calls home."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOADS_A_GRAPH = """
import sys
from pathlib import Path
import {package}
import onnxruntime
onnxruntime.InferenceSession(Path(sys.argv[1]) / "upper.onnx", providers=["CPUExecutionProvider"])
"""


@pytest.mark.parametrize("package", ["steersman_service", "steersman_training"])
def test_onnx_runtime_keeps_no_telemetry(package: str, bundle_dir: Path, tmp_path: Path) -> None:
    """It would queue what it sends in a database below the home folder."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", LOADS_A_GRAPH.format(package=package), str(bundle_dir)]
    subprocess.run(command, env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []
