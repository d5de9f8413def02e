"""Checks, before the work, that a command can write where it will have to."""

import tempfile
from pathlib import Path

NAME_100K = "movielens-100k"


def check_folder(folder: Path, flag: str) -> None:
    """Makes the folder. Raises ValueError naming the flag if that fails, or files cannot be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".trial-", dir=folder) as trial:
            (Path(trial) / "link").symlink_to("file")
    except OSError as error:
        raise ValueError(f"{flag}: nothing can be written to {folder}: {error.strerror}; name another place") from error


def check_file(path: Path, flag: str) -> None:
    """Raises ValueError naming the flag if the file can be neither made nor overwritten."""
    if path.name:
        check_folder(path.parent, flag)
    if not path.name or path.is_dir():
        raise ValueError(f"{flag}: {path} is a folder; name a file")
    try:
        if path.exists():
            path.open("ab").close()
    except OSError as error:
        raise ValueError(f"{flag}: {path} cannot be written: {error.strerror}; name another place") from error


def check_cache(folder: Path, data: str) -> None:
    """Raises ValueError if data must be fetched and cannot be kept. A filled cache need not be writable."""
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
