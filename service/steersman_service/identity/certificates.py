"""Identity from a client's certificate: a URI among its names, which its authority has signed with it."""

import re
from collections.abc import Iterable

from steersman_service.errors import TokenRefused
from steersman_service.identity.identity import ROLES, Identity, Role

SCHEME = "steersman://"
NAME = re.compile(
    rf"{SCHEME}(?P<tenant>[A-Za-z0-9._:-]{{0,128}})/(?P<name>[A-Za-z0-9._:@+-]{{1,128}})\?role=(?P<role>{'|'.join(ROLES)})"
)


def holder_of(names: Iterable[str]) -> Identity | None:
    """Of the certificate with these URIs; None if none is of this scheme. Raises TokenRefused."""
    own = [name for name in names if name.startswith(SCHEME)]
    if not own:
        return None
    found = NAME.fullmatch(own[0])
    if found is None or len(own) > 1:
        raise TokenRefused(
            "a client certificate has one URI steersman://TENANT/NAME?role=ROLE; the tenant may be empty"
        )
    return Identity(found["name"], found["tenant"], Role[found["role"].upper()])
