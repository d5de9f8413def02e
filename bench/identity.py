"""What it costs a call to be known: time of the doors' check, without network, by way of identity.

python -m bench.identity
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bench.quartiles import Quartiles
from steersman.v1.recommendation_service_pb2 import RecommendRequest
from steersman_service.identity.api_keys import new_key
from steersman_service.identity.authenticator import Authenticator
from steersman_service.identity.options import IdentityOptions, JwtOptions
from steersman_service.rpc.doors import Doors

METHOD = "/steersman.v1.RecommendationService/Recommend"
ROUNDS, CALLS = 15, 1000


class Context:
    """As much of gRPC's as the doors look at."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = (("user-agent", "bench"), *metadata)

    def invocation_metadata(self) -> Any:
        return self._metadata


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, check in cases(Path(folder)).items():
            print(f"{name:<42} {await measured(check)} us")


def cases(folder: Path) -> dict[str, Callable[[], Awaitable[None]]]:
    key, line = new_key("steer", "acme", "bench")
    (folder / "keys").write_text(line)
    found = {"nothing is asked": checked(Doors(), "")}
    found["API key"] = checked(Doors(Authenticator(IdentityOptions(api_keys=folder / "keys"))), key)
    for algorithm in ("RS256", "ES256"):
        signer: Any = (
            rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
        )
        file = folder / algorithm
        file.write_bytes(signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        claims = {
            "sub": "bench",
            "aud": "a",
            "iss": "i",
            "exp": time.time() + 3600,
            "tenant": "acme",
            "roles": ["steer"],
        }
        token = jwt.encode(claims, signer, algorithm)
        doors = Doors(Authenticator(IdentityOptions(jwt=JwtOptions(str(file), "a", "i"))))
        found[f"JWT ({algorithm}), remembered"] = checked(doors, token)
        found[f"JWT ({algorithm}), seen for the first time"] = fresh(file, token)
    return found


def checked(doors: Doors, token: str) -> Callable[[], Awaitable[None]]:
    context: Any = Context(*([("authorization", f"Bearer {token}")] if token else []))
    request = RecommendRequest(k=10)

    async def check() -> None:
        identity, _ = await doors.admit(METHOD, context)
        doors.permit(METHOD, request, identity)

    return check


def fresh(file: Path, token: str) -> Callable[[], Awaitable[None]]:
    authenticator = Authenticator(IdentityOptions(jwt=JwtOptions(str(file), "a", "i")))
    once = checked(Doors(authenticator), token)
    assert authenticator._tokens

    async def check() -> None:
        authenticator._tokens._remembered.clear()  # type: ignore[union-attr]
        await once()

    return check


async def measured(check: Callable[[], Awaitable[None]]) -> str:
    """Median of a call, in microseconds, and quartiles over rounds."""
    each = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(CALLS):
            await check()
        each.append(1e6 * (time.perf_counter() - start) / CALLS)
    found = Quartiles.of(each)
    return f"{found.median:7.1f} ({found.low:.1f} to {found.high:.1f})"


if __name__ == "__main__":
    asyncio.run(main())
