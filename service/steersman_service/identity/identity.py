"""Who a caller is, as far as the server has verified it."""

from enum import IntEnum
from typing import NamedTuple


class Role(IntEnum):
    """Each may do what those below it may."""

    NONE = 0
    RECOMMEND = 1
    STEER = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """As tokens, keys and settings write it: "steer"."""
        return self.name.lower()


ROLES = tuple(role.word for role in Role if role)


class Identity(NamedTuple):
    """The default is a caller of a server that asks for no credentials: it may do everything, and belongs to no tenant."""

    name: str = ""
    """Of a person or a program; changes of scenarios and labels are recorded under it."""
    tenant: str = ""
    """Whose sessions the caller sees, and whose share of the queue and of quotas it takes."""
    role: Role = Role.ADMIN


OPEN = Identity()
