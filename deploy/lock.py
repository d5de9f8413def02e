"""Resolves the dependencies again, and writes what images install: `lock.py [--check] [options of uv lock, such as --upgrade]`.

uv.lock has every version that is tested; deploy/requirements*.txt are parts of it, with hashes. `--check` writes nothing, asks nobody, and
fails if anything is stale.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PUBLIC = ("https://pypi.org/", "https://files.pythonhosted.org/")
IMAGE_EXTRAS = ("service", "http", "traces", "s3", "hub")
PARTS = {
    "requirements.txt": [part for extra in IMAGE_EXTRAS for part in ("--extra", extra)],
    "requirements-cuda.txt": ["--only-group", "cuda"],
    "requirements-build.txt": ["--only-group", "build"],
}


def main() -> None:
    check, options = "--check" in sys.argv, [each for each in sys.argv[1:] if each != "--check"]
    uv("lock", *(["--check", "--offline"] if check else options))
    strangers = {url for url in urls((ROOT / "uv.lock").read_text()) if not url.startswith(PUBLIC)}
    if strangers:
        sys.exit(f"uv.lock names {sorted(strangers)[0]}: resolve it against PyPI, without the indexes of this machine")
    stale = []
    for name, chosen in PARTS.items():
        made = uv("export", "--frozen", "--offline", "--no-emit-project", "--no-header", *chosen)
        if check and (DEPLOY / name).read_text() != made:
            stale.append(name)
        elif not check:
            (DEPLOY / name).write_text(made)
    if stale:
        sys.exit(f"{', '.join(stale)} in {DEPLOY}: stale; commit what 'make lock' writes")


def urls(lock: str) -> list[str]:
    """Of the indexes and files in a lock."""
    return [part for part in lock.split('"') if "://" in part]


def uv(*arguments: str) -> str:
    """Its output. uv's own configuration, of a user or a machine, does not count."""
    command = [sys.executable, "-m", "uv", *arguments, "--no-config", "--no-progress", "--python", sys.executable]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr.strip())
    return done.stdout


if __name__ == "__main__":
    main()
