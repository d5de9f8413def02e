"""The results as JSON, and as tables between marks of a page."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.chaos.rows import ROWS, Row
from bench.chaos.stage import Result

Document = dict[str, Any]
END = "<!-- end -->"
COLUMNS = (
    *("fault", "what runs", "sent", "answered", "degraded", "refused", "failed"),
    *("events acknowledged", "lost", "twice", "recovery, s", "slowest, s"),
)


def told(row: Row, result: Result, load: Mapping[str, Any]) -> Document:
    """A row of the document."""
    assert result.seen
    assert result.audit
    return {
        "parts": row.parts,
        "fault": row.fault,
        **load,
        **result.seen._asdict(),
        **{f"events_{name}": value for name, value in result.audit._asdict().items()},
        "mixed": result.mixed,
        "may_lose": row.may_lose,
        "notes": result.notes,
        "missed": missed(row, result),
    }


def missed(row: Row, result: Result) -> list[str]:
    """Bars that do not hold, in words."""
    assert result.seen
    assert result.audit
    audit, seen = result.audit, result.seen
    wrong = [*result.wrong]
    if audit.lost and not row.may_lose:
        wrong.append(f"{audit.lost} acknowledged events lost")
    if audit.duplicates:
        wrong.append(f"{audit.duplicates} events twice")
    if audit.unread:
        wrong.append(f"{audit.unread} sessions cannot be read")
    if result.mixed:
        wrong.append(f"{result.mixed} answers mix two bundles")
    errors = sum(seen.refused.values()) + sum(seen.failed.values()) + seen.degraded
    if row.no_errors and errors:
        wrong.append(f"{errors} requests refused, failed or degraded")
    if broken := seen.failed.get("INTERNAL", 0):
        wrong.append(f"{broken} internal errors of the server")
    if seen.recovery_seconds is None:
        wrong.append("not recovered")
    return wrong


def read(path: Path) -> Document:
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, document: Document) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def write_table(page: Path, name: str, lines: Iterator[str]) -> None:
    """Between `<!-- table: NAME -->` and `<!-- end -->`. Raises ValueError if the page has no such marks."""
    text = page.read_text("utf-8")
    begin = f"<!-- table: {name} -->"
    before, found, rest = text.partition(f"{begin}\n")
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"{page}: there is no {begin} with an {END}")
    page.write_text(before + found + "".join(f"{line}\n" for line in lines) + end + after, "utf-8")


def table(document: Document) -> Iterator[str]:
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|{' --- |' * len(COLUMNS)}"
    rows = document.get("chaos", {})
    for name in (name for name in ROWS if name in rows):
        own = rows[name]
        if "skipped" in own:
            yield f"| `{name}`: {ROWS[name].fault} | {ROWS[name].parts} | skipped: {own['skipped']} |{' |' * (len(COLUMNS) - 3)}"
            continue
        recovery = own["recovery_seconds"]
        notes = "".join(f"; {note}" for note in own["notes"])
        cells = (
            f"`{name}`: {own['fault']}{notes}",
            own["parts"],
            own["sent"],
            own["answered"],
            own["degraded"],
            _counts(own["refused"]),
            _counts(own["failed"]),
            own["events_acknowledged"],
            f"{own['events_lost']}{' (may: ' + own['may_lose'] + ')' if own['may_lose'] else ''}",
            own["events_duplicates"],
            "not recovered" if recovery is None else f"{recovery:g}",
            f"{own['slowest_seconds']:.2f}",
        )
        yield f"| {' | '.join(map(str, cells))} |"


def _counts(reasons: Mapping[str, int]) -> str:
    total = sum(reasons.values())
    return f"{total} ({', '.join(f'{reason} {count}' for reason, count in reasons.items())})" if total else "0"
