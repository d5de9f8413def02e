"""A session's name in the store: its id, below its tenant."""

SEPARATOR = "/"
"""Neither ids nor tenants hold it (checks.py), so no id forges the session of another tenant."""


def session_key(tenant: str, session_id: str) -> str:
    """`tenant/id`; without a tenant, the id. Empty if there is no session."""
    return f"{tenant}{SEPARATOR}{session_id}" if tenant and session_id else session_id


def id_of(key: str) -> str:
    return key.rpartition(SEPARATOR)[2]


def tenant_of(key: str) -> str:
    """Empty for a session without a tenant."""
    return key.partition(SEPARATOR)[0] if SEPARATOR in key else ""
