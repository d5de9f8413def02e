"""The mix of a load test: which calls are made, in which shares."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mix:
    """Shares are 0 to 1. Every call is one arrival of the set rate."""

    session: float = 0.5
    """Of all calls, those of sessions: AppendEvents and Recommend by session id, in turn."""
    steered: float = 0.5
    """Of all Recommend calls, those with a control."""
    concepts: float = 0.6
    """Of the steered ones, those that steer a concept (add); the others add to, scale or ablate a feature."""
    filtered: float = 0.2
    """Of all Recommend calls, those with a filter: an attribute value, allowed ids or denied ids."""
    canary: float = 0.1
    """Of the Recommend calls without a session, those that repeat a canary."""
    k: int = 10
    """Items wanted of each Recommend."""
    users: int = 100
    """Active sessions of each client process."""
