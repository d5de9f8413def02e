"""Clients of a server: one that waits, and one for asyncio."""

from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from steersman_client.channel import PACKAGE, Connection, connection
from steersman_client.credentials import open_aio_channel, open_channel, why_not_let_in
from steersman_client.errors import CallError
from steersman_client.methods import AsyncMethods, Methods


class Client(Methods):
    """Calls a server, and waits for its answers. May be used by several threads.

    >>> with Client("localhost") as client:  # doctest: +SKIP
    ...     client.recommend(["50", "181"], controls={"genres:Horror": 0.8}).item_ids
    """

    def __init__(
        self,
        target: str = "localhost",
        *,
        tls_ca: str | Path | None = None,
        tls_cert: str | Path | None = None,
        tls_key: str | Path | None = None,
        token: str | None = None,
        tenant: str | None = None,
        timeout: float = 1.0,
    ) -> None:
        """`target` is host:port, or what else gRPC takes. `timeout` is the deadline of each call, repeated attempts included, in seconds.

        TLS: files in PEM, `tls_ca` with the certificates that sign the server's; `tls_cert` and `tls_key` where the server asks for the
        client's. `token` travels as "authorization: Bearer", over TLS or on this machine alone. `tenant` names whose turn calls take.
        Raises ValueError for arguments that do not go together, OSError for files that cannot be read.
        """
        self._connection = connection(
            target,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            token=token,
            tenant=tenant,
            timeout=timeout,
        )
        to = self._connection
        self._channel = open_channel(to.target, to.access, to.options)

    def close(self) -> None:
        """Ends the connection, and calls under way."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _send(self, method: str, request: Message, answer: type[Message]) -> Any:
        call: Any = self._channel.unary_unary(
            f"/{PACKAGE}.{method}", type(request).SerializeToString, answer.FromString
        )
        try:
            return call(request, timeout=self._connection.timeout_seconds, metadata=self._connection.metadata)
        except grpc.RpcError as error:
            raise _failed(error, self._connection) from None


class AsyncClient(AsyncMethods):
    """The same for asyncio. It belongs to the event loop that runs when it is made."""

    def __init__(
        self,
        target: str = "localhost",
        *,
        tls_ca: str | Path | None = None,
        tls_cert: str | Path | None = None,
        tls_key: str | Path | None = None,
        token: str | None = None,
        tenant: str | None = None,
        timeout: float = 1.0,
    ) -> None:
        """As those of Client."""
        self._connection = connection(
            target,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            token=token,
            tenant=tenant,
            timeout=timeout,
        )
        to = self._connection
        self._channel = open_aio_channel(to.target, to.access, to.options)

    async def close(self) -> None:
        """Ends the connection, and calls under way."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _send(self, method: str, request: Message, answer: type[Message]) -> Any:
        call: Any = self._channel.unary_unary(
            f"/{PACKAGE}.{method}", type(request).SerializeToString, answer.FromString
        )
        try:
            return await call(request, timeout=self._connection.timeout_seconds, metadata=self._connection.metadata)
        except grpc.RpcError as error:
            raise _failed(error, self._connection) from None


def _failed(error: Any, to: Connection) -> CallError:
    said = error.details() or ""
    why = why_not_let_in(said, to.access)
    return CallError.of_call(error.code().name, said, error.trailing_metadata() or (), to.target, why)
