"""TLS of the gRPC port, by grpc's own credentials."""

from typing import Any

import grpc

from steersman_service.certificates import Certificates, Loaded


def server_credentials(certificates: Certificates, *, demanding: bool) -> grpc.ServerCredentials:
    """Each new connection has the files as they are then; those that are open stay. TLS 1.2 is the least that gRPC speaks.

    `demanding`: a client has to show a certificate that one of the authorities has signed.
    """
    given = certificates.current

    def renewed() -> Any:
        """gRPC asks from threads of its own, before each handshake. None: nothing has changed."""
        nonlocal given
        current = certificates.current
        if current is given:
            return None
        configuration = _configuration(current, demanding=demanding)
        given = current
        return configuration

    first = _configuration(given, demanding=demanding)
    return grpc.dynamic_ssl_server_credentials(first, renewed, demanding)


def _configuration(loaded: Loaded, *, demanding: bool) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(loaded.key, loaded.chain)], loaded.authorities if demanding else None
    )
