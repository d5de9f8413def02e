"""What may be reached from other machines, and whether it may be."""

from collections.abc import Iterator

import structlog

from steersman_service.checks import on_this_machine
from steersman_service.errors import StartupError
from steersman_service.settings import Settings

log = structlog.get_logger()


def check_exposed(settings: Settings, *, http: bool) -> None:
    """`http`: whether it is answered. Raises StartupError, or warns where the setting `insecure` lets it pass."""
    if problems := [*_problems(settings, http=http)]:
        if settings.insecure == "on":
            for problem in problems:
                log.warning("insecure", why=problem)
            return
        raise StartupError(
            f"settings: {'; '.join(problems)}. Or listen on 127.0.0.1; or set STEERSMAN_INSECURE=on, where a network that is private, or a"
            " proxy, keeps others away"
        )


def _problems(settings: Settings, *, http: bool) -> Iterator[str]:
    if not on_this_machine(settings.host):
        yield from _of_calls("host", settings.host, "grpc", settings)
    if http and not on_this_machine(settings.http_host):
        yield from _of_calls("http_host", settings.http_host, "http", settings)
    # Metrics name no user, no item and no tenant: Prometheus need not say who it is, but what it reads is not for all to alter or to see.
    exposed = settings.metrics == "on" and not on_this_machine(settings.metrics_host)
    if exposed and settings.tls_files is None and settings.insecure != "metrics":
        yield (
            f"metrics_host: other machines reach {settings.metrics_host}, without TLS: give tls_cert and tls_key, or"
            " STEERSMAN_INSECURE=metrics"
        )


def _of_calls(name: str, host: str, door: str, settings: Settings) -> Iterator[str]:
    lacks, remedies = list[str](), list[str]()
    if settings.tls_files is None:
        lacks, remedies = ["without TLS"], ["tls_cert and tls_key"]
    if not identifies(settings, door):
        lacks.append("without a way to know callers")
        remedies.append(f"tls_ca with {door} in tls_client_certs, or api_keys or jwt_keys")
    if lacks:
        yield f"{name}: other machines reach {host}, {' and '.join(lacks)}: give {', and '.join(remedies)}"


def identifies(settings: Settings, door: str) -> bool:
    """Whether callers at "grpc" or "http" have to say who they are, before they may do everything."""
    asks = settings.identity_options.asks and settings.anonymous_role != "admin"
    return settings.demands_certificates(door) or asks
