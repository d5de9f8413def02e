"""The notebook runs from its first cell to its last, in a kernel of its own."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "steer.ipynb"


def kept() -> "NotebookNode":
    import nbformat  # it takes seconds, which every process of a run would pay

    read: Any = nbformat.read
    notebook: NotebookNode = read(NOTEBOOK, as_version=4)
    return notebook


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    notebook = kept()
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = {cell.id: "".join(map(str, cell.get("outputs", ()))) for cell in notebook.cells}
    assert "genres:Horror" in outputs["concepts"]
    assert "genres:Horror = 1 was" in outputs["steered"]
    assert "Horror film" in outputs["steered"]


def test_it_is_kept_without_outputs() -> None:
    cells = kept().cells
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
