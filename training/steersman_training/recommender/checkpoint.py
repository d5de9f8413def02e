"""Checkpoints: the state of a training run in a file, which belongs to its data, split and settings."""

import hashlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from steersman_training.data.sequences import Split
from steersman_training.recommender.model import RecommenderConfig

FORMAT = 3  # raised with every change of the recommender or of what a checkpoint holds
REMEDY = "delete it, or name another place"

State = dict[str, Any]
Identity = dict[str, Any]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, written, or used for this run. The message names the file and the remedy."""


def identity(
    split: Split, shape: RecommenderConfig, fit: dict[str, Any], attributes_NV: Tensor | None = None
) -> Identity:
    """What a checkpoint and a run that resumes from it have in common: contents by their SHA-256, settings by name."""
    settings = {**asdict(shape), **fit}
    if attributes_NV is not None:
        settings["attributes"] = hashlib.sha256(attributes_NV.cpu().numpy().tobytes()).hexdigest()[:12]
    return {"format": FORMAT, "data": split.data_sha256, "split": split.sha256(), "settings": settings}


def write(path: Path, belongs_to: Identity, state: State) -> None:
    """Replaces the file in one step: the earlier content stays if writing fails. Raises CheckpointError."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save({"identity": belongs_to, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch hides the reason of a failed write behind a RuntimeError
        reason = error if isinstance(error, OSError) else error.__context__
        temporary.unlink(missing_ok=True)
        reason = getattr(reason, "strerror", None) or reason or error
        raise CheckpointError(f"{path}: the checkpoint cannot be written: {reason}") from error


def read(path: Path, device: torch.device | None = None) -> State:
    """The state; without a device, tensors stay in the file until they are used. Runs no code of the file.

    Raises CheckpointError if it is no checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: is no file, so no checkpoint; name another place")
    try:
        state = torch.load(path, map_location=device or "cpu", weights_only=True, mmap=device is None)
    except OSError as error:
        raise CheckpointError(f"{path}: the checkpoint cannot be read: {error.strerror}; name another place") from error
    except Exception as error:  # torch raises errors of any kind for broken content
        raise broken(path) from error
    if not isinstance(state, dict) or not isinstance(state.get("identity", {}), dict):
        raise broken(path)
    if state.get("identity", {}).get("format") == FORMAT:
        return state
    if {"settings", "identity"} & state.keys():
        raise CheckpointError(f"{path}: a checkpoint of another version of Steersman; {REMEDY}")
    raise broken(path)


def broken(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: is no checkpoint (empty, cut off, or another kind of file); {REMEDY}")


def readable(path: Path) -> None:
    """Raises CheckpointError if the file exists and is no checkpoint."""
    if path.exists():
        read(path)


def check(path: Path, wanted: Identity) -> None:
    """Raises CheckpointError if the file exists and a run with this identity cannot resume from it."""
    if path.exists():
        match(path, read(path)["identity"], wanted)


def match(
    path: Path, found: Identity, wanted: Identity, parts: tuple[str, ...] = ("data", "split", "settings")
) -> None:
    """Raises CheckpointError naming the difference if two identities differ in one of these parts."""
    names = {"data": "other data", "split": "another split of the data", "settings": "other settings"}
    for part in parts:
        if found.get(part) != wanted[part]:
            how = f" ({differences(found, wanted)})" if part == "settings" else ""
            raise CheckpointError(f"{path}: belongs to a run with {names[part]}{how}; {REMEDY}")


def differences(found: Identity, wanted: Identity) -> str:
    """The settings in which two identities differ, as text: "epochs: 12 there, 5 here"."""
    there, here = found["settings"], wanted["settings"]
    names = [name for name in dict.fromkeys([*here, *there]) if there.get(name) != here.get(name)]
    return ", ".join(f"{name}: {there.get(name)} there, {here.get(name)} here" for name in names)
