"""Every Python example of the documents runs: in their order, against the tiny bundle."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
# What documents name of MovieLens-100K -> what the tiny bundle has. Its genres have the same names.
NAMES = {'"50"': '"100"', '"181"': '"101"', '"172"': '"102"', '"183"': '"106"', '"176"': '"110"'}


class Example(NamedTuple):
    code: str
    line: int


def examples(document: Path) -> list[Example]:
    text = document.read_text()
    found = [(block, text.count("\n", 0, block.start("code"))) for block in BLOCK.finditer(text)]
    assert len(found) == len(re.findall("^```python", text, re.MULTILINE)), "a block of another form"
    return [Example(block["code"], line) for block, line in found]


@pytest.mark.parametrize("name", ["README.md", "docs/steering.md"])
def test_examples_run(
    name: str, address: str, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "bundles").mkdir(parents=True)
    (tmp_path / "data" / "bundles" / "current").symlink_to(bundle_dir)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    found = examples(ROOT / name)
    assert found
    for example in found:
        code = example.code.replace('Client("localhost")', f'Client("{address}", timeout=60)')
        for theirs, ours in NAMES.items():
            code = code.replace(theirs, ours)
        # Errors name the line of the document.
        exec(compile("\n" * example.line + code, name, "exec"), scope)
    for made in ("model", "client"):
        if made in scope:
            scope[made].close()  # type: ignore[attr-defined]
