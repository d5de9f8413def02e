"""SECURITY.md names settings that there are."""

import re

import pytest

from steersman_service.settings import PREFIX, Settings
from tests.deploy.files import ROOT

NAMED = sorted(set(re.findall(rf"{PREFIX}([A-Z_]+\*?)", (ROOT / "SECURITY.md").read_text())))


@pytest.mark.parametrize("name", NAMED)
def test_a_defence_has_its_setting(name: str) -> None:
    known = {setting.upper() for setting in Settings.model_fields}
    assert any(setting.startswith(name[:-1]) if name.endswith("*") else setting == name for setting in known)
