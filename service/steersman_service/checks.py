"""Checks that several services share: ids and texts of callers."""

import re
from collections.abc import Iterator

from steersman_service.errors import Violation

SESSION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
MAX_REQUEST_ID_BYTES = 128
MAX_EVENT_ID_BYTES = 128
MAX_ITEM_ID_BYTES = 256
MAX_SEARCH_BYTES = 256


def check_session_id(session_id: str) -> Iterator[Violation]:
    if not SESSION_ID.fullmatch(session_id):
        yield Violation("session_id", "must be 1 to 128 of the characters A-Z a-z 0-9 . _ - :")


def check_bytes(field: str, text: str, least: int, most: int) -> Iterator[Violation]:
    size = len(text.encode())
    if not least <= size <= most:
        yield Violation(field, f"has {size} bytes; {least} to {most} are allowed")
