"""How commands fail: errors that a person can cause are printed in one line, without a traceback."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.text import Text

P = ParamSpec("P")
R = TypeVar("R")
INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it


@contextmanager
def plainly() -> Iterator[None]:
    """Ends the command with status 1 and one line for errors in data, settings, files and memory. Other errors are bugs: they pass."""
    try:
        yield
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        message = _message(error)
        if message is None:
            raise
        _print("error:", message, error)
        raise typer.Exit(1) from error


@contextmanager
def flag(*names: str) -> Iterator[None]:
    """Names the flag of a wrong setting: "active: 80 is ..." becomes "--active: 80 is ..."."""
    try:
        yield
    except ValueError as error:
        name, colon, rest = str(error).partition(":")
        if name not in names:
            raise
        raise ValueError(f"--{name}{colon}{rest}") from error


def interruptible(command: Callable[P, R]) -> Callable[P, R]:
    """Ends the command with status 130 and one line after Ctrl-C."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt as error:
            _print("interrupted", "", error)
            raise typer.Exit(INTERRUPTED) from error

    return run


def _message(error: Exception) -> str | None:
    """None: an error that a person cannot cause."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if not isinstance(error, RuntimeError | MemoryError):
        return str(error)
    first = (str(error).splitlines() or [""])[0]
    of_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in first
    if isinstance(error, MemoryError) or of_torch:
        return f"not enough memory ({first}); take a smaller preset, fewer --features, or less data"
    return None


def _print(head: str, message: str, error: BaseException) -> None:
    """One line: what happened, and the notes of the error, which say what is kept."""
    rest = "; ".join(part for part in (message, *getattr(error, "__notes__", [])) if part)
    text = Text.assemble((head, "red"), " " if head.endswith(":") else ": " if rest else "", rest)
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)
