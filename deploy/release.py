"""Builds wheel and sdist, and tries every extra alone in a fresh virtual environment: `make release`.

Nothing is published and nothing is tagged. A Python that is not there is SKIPPED. So is the extra training where pip finds no build of
torch for the CPU: from the index of PyPI it would be a CUDA build of several GB.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]
PATIENCE_SECONDS = 300
NOWHERE = "127.0.0.1:9"
TRACES = """
from steersman_service.telemetry.traces import configure_traces, traces
configure_traces("http://127.0.0.1:9", 0, "tried")
assert traces().on
"""

# A command of each kind -> the extra that it says it needs.
COMMANDS = {
    **dict.fromkeys(("recommend", "explain", "features", "items", "scenarios", "label", "compare"), "client"),
    **dict.fromkeys(("serve", "key", "bundle verify x", "bundle pull s3://bucket/x"), "service"),
    **dict.fromkeys(("train", "evaluate", "sweep", "bundle sign"), "training"),
    "gateway": "http",
    "loadtest": "loadtest",
}


class Failed(Exception):
    """A line that says what."""


class Environment(NamedTuple):
    """A virtual environment with the wheel and extras of it."""

    folder: Path
    bundle: Path | None

    def python(self, code: str) -> str:
        return self.run("python", "-c", code)

    def pip(self, *arguments: str) -> str:
        """Installs, with what this machine has configured for pip."""
        return self.run("python", "-m", "pip", "install", "--quiet", "--no-compile", *arguments, environment=os.environ)

    def run(self, *command: str, code: int = 0, environment: Mapping[str, str] | None = None) -> str:
        """All that it printed. It must end with `code`, and without a traceback."""
        done = subprocess.run(
            [self.folder / "bin" / command[0], *command[1:]],
            cwd=self.folder,
            env=self._environment() if environment is None else environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if done.returncode != code or "Traceback" in done.stdout:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}, not {code}:\n{done.stdout[-2000:]}")
        return done.stdout

    def says(self, text: str, *command: str, code: int = 1) -> None:
        told = " ".join(self.run(*command, code=code).split())
        if text not in told:
            raise Failed(f"{' '.join(command)} does not say {text!r}: {told[-2000:]}")

    def serves(self, *command: str, until: str) -> str:
        """Starts a server, waits for a line with `until`, ends it by SIGTERM; gives that line."""
        found = ""
        with subprocess.Popen(
            [self.folder / "bin" / "steersman", *command],
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as server:
            assert server.stdout
            told = []
            try:
                for line in server.stdout:
                    told.append(line)
                    if until in line:
                        found = line
                        break
            finally:
                server.send_signal(signal.SIGTERM)
                server.stdout.read()
        if not found or server.returncode:
            raise Failed(f"{' '.join(command)} ended with {server.returncode}: {''.join(told)[-2000:]}")
        return found

    def _environment(self) -> dict[str, str]:
        return {"PATH": f"{self.folder}/bin:/usr/bin:/bin", "HOME": str(self.folder), "COLUMNS": "200"}


def bare(env: Environment) -> None:
    if (told := env.run("steersman", "--version")) and not told.startswith(f"steersman {VERSION} "):
        raise Failed(f"--version says {told}")
    for command, extra in COMMANDS.items():
        env.says(f"pip install 'steersman[{extra}]'", "steersman", *command.split())
    env.python("import steersman.v1.recommendation_service_pb2")


def client(env: Environment) -> None:
    env.python("import steersman_client; steersman_client.Client('127.0.0.1:9').close()")
    env.says(NOWHERE, "steersman", "recommend", "--history", "1", "--address", NOWHERE, "--timeout", "2")


def service(env: Environment) -> None:
    env.says("no-bundle", "steersman", "serve", "--bundle", "no-bundle")
    env.says(
        "pip install 'steersman[traces]'", "steersman", "serve", "--bundle", "x", "--traces-endpoint", "http://h:4317"
    )
    for source, extra in (("s3://bucket/prefix", "s3"), ("hf://owner/repo", "hub")):
        env.says(f"steersman[{extra}]", "steersman", "serve", "--bundle", source)
    if env.bundle:
        ports = ("--port", "0", "--metrics-port", "0", "--engines", "1", "--inference-threads", "1")
        env.serves("serve", "--bundle", str(env.bundle), *ports, until="over gRPC")


def http(env: Environment) -> None:
    env.serves("gateway", "--port", "0", "--target", NOWHERE, until="http://127.0.0.1:")


def loadtest(env: Environment) -> None:
    env.says("", "steersman", "loadtest", "--help", code=0)
    env.says(NOWHERE, "steersman", "loadtest", "--address", NOWHERE, "--rate", "1", "--seconds", "1")


def traces(env: Environment) -> None:
    env.python(TRACES)


def s3(env: Environment) -> None:
    env.python("import steersman_service.bundle.s3, fsspec, s3fs")


def hub(env: Environment) -> None:
    env.python("import steersman_service.bundle.hub, huggingface_hub")


def training(env: Environment) -> None:
    env.python("import steersman_training.pipeline")
    env.says("no-data", "steersman", "train", "--data", "no-data.csv")


# What is installed -> how it is tried. Traces and sources of bundles are parts of a server.
CHECKS: dict[str, Callable[[Environment], None]] = {
    "": bare,
    "client": client,
    "service": service,
    "http": http,
    "loadtest": loadtest,
    "service,traces": traces,
    "service,s3": s3,
    "service,hub": hub,
    "training": training,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", default="python3.11 python3.12 python3.13 python3.14", help="interpreters to try")
    parser.add_argument("--extras", nargs="*", default=list(CHECKS), choices=list(CHECKS))
    parser.add_argument("--bundle", type=Path, help="a bundle to serve")
    parser.add_argument("--torch", default="torch", help="the requirement of training's torch")
    arguments = parser.parse_args()
    wheel = build()
    bundle = arguments.bundle.resolve() if arguments.bundle and arguments.bundle.exists() else None
    failures = 0
    for python in arguments.pythons.split():
        version = version_of(python)
        if version is None:
            print(f"{python}: SKIPPED, it is not there", flush=True)
            continue
        for extras in arguments.extras:
            outcome = tried(python, wheel, extras, bundle, arguments.torch)
            failures += outcome.startswith("FAILED")
            print(f"Python {version}  {extras or 'bare'}: {outcome}", flush=True)
    sys.exit(1 if failures else 0)


def build() -> Path:
    """The wheel, made from the sdist, which is thereby known to be complete."""
    for old in DIST.glob("steersman-*"):
        old.unlink()
    uv("build", "--no-config", "--out-dir", str(DIST), str(ROOT))
    (wheel,) = DIST.glob("steersman-*.whl")
    (sdist,) = DIST.glob("steersman-*.tar.gz")
    if (wheel.name, sdist.name) != (f"steersman-{VERSION}-py3-none-any.whl", f"steersman-{VERSION}.tar.gz"):
        sys.exit(f"built {wheel.name} and {sdist.name}, not version {VERSION}")
    if f"\n## {VERSION} (" not in (ROOT / "CHANGELOG.md").read_text():
        sys.exit(f"CHANGELOG.md has no section '## {VERSION} (DATE)'")
    print(f"{wheel.name}: {wheel.stat().st_size >> 10} KiB, {sdist.name}: {sdist.stat().st_size >> 10} KiB", flush=True)
    return wheel


def tried(python: str, wheel: Path, extras: str, bundle: Path | None, torch: str) -> str:
    """In a word, or what failed."""
    with tempfile.TemporaryDirectory() as folder:
        env = Environment(Path(folder, "venv"), bundle)
        try:
            uv("venv", "--no-config", "--python", python, "--seed", str(env.folder))
            if extras == "training" and not cpu_torch(env, torch):
                return "SKIPPED, pip finds no torch for the CPU"
            target = f"{wheel}[{extras}]" if extras else str(wheel)
            if extras == "training":
                env.pip(target)
            else:
                uv("pip", "install", "--no-config", "--python", str(env.folder), target)
            CHECKS[extras](env)
        except (Failed, subprocess.TimeoutExpired) as error:
            return f"FAILED: {error}"
    return "ok"


def cpu_torch(env: Environment, torch: str) -> bool:
    """Installs it as `make setup` does, if pip finds such a build: its version ends in +cpu."""
    wanted = ("--no-deps", "--only-binary", ":all:", *torch.split())
    try:
        told = env.pip("--dry-run", "--report", "-", *wanted)
    except Failed:
        return False
    if not re.search(r'"version": "[\d.]+\+cpu"', told):
        return False
    env.pip(*wanted)
    return True


def version_of(python: str) -> str | None:
    """As "3.11.7"; None if it does not run. A path or a name."""
    path = shutil.which(python)
    code = "import platform; print(platform.python_version())"
    done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False) if path else None
    return done.stdout.strip() if done and not done.returncode else None


def uv(*arguments: str) -> None:
    """Raises Failed."""
    # What a user has set for the project's own environment does not count here.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = [sys.executable, "-m", "uv", *arguments, "--quiet"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"uv {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    main()
