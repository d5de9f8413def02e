"""Installs the peers, each in a virtual environment of its own, since they want different versions of the same packages.

python -m bench.peers.install --into data/peers

One that cannot be installed is left out, and said to be. Those that are there already are left as they are.
"""

import argparse
import subprocess
import sys
from pathlib import Path

PEERS = {
    "triton": "nvidia-pytriton==0.7.0",
    "ray": "ray[serve]==2.60.0",
    "mlserver": "mlserver==1.7.1",
    "litserve": "litserve==0.2.19",
}
DONE = ".installed"


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m bench.peers.install", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, default=Path("data/peers"))
    parser.add_argument("--only", default=",".join(PEERS), help="peers, separated by commas")
    arguments = parser.parse_args()
    for name in arguments.only.split(","):
        print(f"{name}: {_install(PEERS[name], arguments.into / name)}", flush=True)


def _install(requirement: str, folder: Path) -> str:
    if (folder / DONE).is_file() and (folder / DONE).read_text() == requirement:
        return f"{requirement} is there"
    pip: list[str | Path] = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    try:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([*pip, requirement, f"onnxruntime=={_own_onnxruntime()}"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"NOT INSTALLED: {error}"
    (folder / DONE).write_text(requirement)
    return f"{requirement} installed"


def _own_onnxruntime() -> str:
    """Everyone computes with the version that Steersman computes with."""
    from importlib.metadata import version

    return version("onnxruntime")


if __name__ == "__main__":
    main()
