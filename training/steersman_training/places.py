"""Whether the places where a command is going to write can be written: found before the work, not after it."""

import tempfile
from pathlib import Path

NAME_100K = "movielens-100k"


def check_folder(folder: Path, flag: str) -> None:
    """Makes the folder. Raises ValueError naming the flag if that fails, or no file can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".trial-", dir=folder) as trial:
            (Path(trial) / "link").symlink_to("file")
    except OSError as error:
        raise ValueError(f"{flag}: nothing can be written to {folder}: {error.strerror}; name another place") from error


def check_file(path: Path, flag: str) -> None:
    """Raises ValueError naming the flag if a file of this name can be neither made nor written again."""
    if not path.name:
        raise ValueError(f"{flag}: {path} is a folder; name a file")
    check_folder(path.parent, flag)
    if path.is_dir():
        raise ValueError(f"{flag}: {path} is a folder; name a file")
    try:
        if path.exists():
            path.open("ab").close()
    except OSError as error:
        raise ValueError(f"{flag}: {path} cannot be written: {error.strerror}; name another place") from error


def check_cache(folder: Path, data: str) -> None:
    """Raises ValueError if data has to be fetched and could not be kept. What is there already needs no writing."""
    if data == NAME_100K and not (folder.is_dir() and any(folder.iterdir())):
        check_folder(folder, "--cache")


def check_bundles(folder: Path, flag: str) -> None:
    """Raises ValueError naming the flag if no bundle can be written here, or `current` is no link that may be replaced."""
    check_folder(folder, flag)
    current = folder / "current"
    if current.exists() and not current.is_symlink():
        raise ValueError(
            f"{flag}: {current} is in the way: it is no link to a bundle; move it away, or name another folder"
        )


def check_report(out: Path, flag: str) -> None:
    """The same for a report: `out`.json, `out`.md, and the folder `out` of its pictures."""
    for ending in (".json", ".md"):
        check_file(out.with_name(out.name + ending) if out.name else out, flag)
    check_folder(out, flag)
