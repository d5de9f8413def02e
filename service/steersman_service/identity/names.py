"""What a credential says of its holder, checked."""

from steersman_service.checks import TENANT
from steersman_service.identity.identity import ROLES, Role

MAX_NAME_BYTES = 128


def check_holder(name: str, tenant: str) -> str:
    """What is wrong with them; empty if nothing is. An empty `tenant` is none."""
    if not name.isprintable() or not 1 <= len(name.encode(errors="replace")) <= MAX_NAME_BYTES:
        return f"its name has to be 1 to {MAX_NAME_BYTES} bytes that print"
    if tenant and not TENANT.fullmatch(tenant):
        return "its tenant has to be 1 to 128 of the characters A-Z a-z 0-9 . _ - :"
    return ""


def highest(words: list[str]) -> Role:
    """NONE if none of `words` names a role."""
    return max((Role[word.upper()] for word in words if word in ROLES), default=Role.NONE)
