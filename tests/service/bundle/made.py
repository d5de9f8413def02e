"""Bundles that are whole but for their meaning: enough to be copied about, and made in no time."""

import hashlib
import json
from pathlib import Path

FILES = {"a.npy": b"1" * 10, "lower.ts": b"code" * 300_000, "README.md": b"---\n---\n", "z.bin": b""}


def made(folder: Path, **changes: object) -> str:
    """Writes one into `folder`, and gives its version. `changes` are members of its manifest."""
    folder.mkdir(parents=True)
    document = {"format_major": 1, "format_minor": 7, "files": {}, **changes}
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
        entry = {"sha256": hashlib.sha256(content).hexdigest(), "size": str(len(content))}
        document["files"] = {name: entry, **document["files"]}  # type: ignore[dict-item]
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    version = hashlib.sha256(canonical.encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps({"version": version, **document}))
    return version
