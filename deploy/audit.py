"""Asks OSV for advisories on what images install. Fails on findings, and on a package that could not be asked about.

SKIPPED, and no failure, where OSV cannot be reached: an audit that did not take place must not look like one that found nothing, which is
how pip-audit's own default, the JSON of PyPI, ends behind a mirror that has none.
"""

import argparse
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

OSV = "https://api.osv.dev/v1/query"
REQUIREMENTS = sorted(Path(__file__).parent.glob("requirements*.txt"))
TIMEOUT_SECONDS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--osv-url", default=OSV)
    parser.add_argument("files", nargs="*", type=Path, default=REQUIREMENTS, help="with hashes")
    arguments = parser.parse_args()
    if why := unreachable(arguments.osv_url):
        print(f"audit: SKIPPED, {arguments.osv_url} cannot be reached ({why})")
        return
    files = [option for path in arguments.files for option in ("--requirement", str(path))]
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--strict",
        "--require-hashes",
        "--disable-pip",
        "--progress-spinner",
        "off",
    ]
    command += ["--vulnerability-service", "osv", "--osv-url", arguments.osv_url, *files]
    sys.exit(subprocess.run(command, check=False).returncode)


def unreachable(url: str) -> str:
    """Why; empty: it answers, with whatever status."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError:
        return ""
    except OSError as error:
        return str(getattr(error, "reason", error))
    return ""


if __name__ == "__main__":
    main()
