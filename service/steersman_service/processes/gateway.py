"""The gateway in a process of its own: HTTP in, the front ends' private sockets behind."""

from steersman_service.certificates import watched
from steersman_service.gateway import gateway
from steersman_service.http.options import CONSOLE, GatewayOptions, names
from steersman_service.http.server import listening
from steersman_service.processes.link import Link, Ready, Sockets, Start, run_child, settle_memory
from steersman_service.rpc.upstream import unix_target
from steersman_service.scheduling.events import first_of
from steersman_service.scheduling.stall import watched_loop
from steersman_service.secret_settings import secret
from steersman_service.settings import Settings
from steersman_service.telemetry.metrics import Metrics


async def serve(start: Start, settings: Settings, link: Link, metrics: Metrics) -> None:
    """Until the supervisor says `drain`. Raises StartupError."""
    await link.may_listen()
    on = listening(settings.http_host, settings.http_port, shared=True)
    async with watched(settings.tls_files, metrics) as certificates:
        demanding = settings.demands_certificates("http")
        context = certificates.context(demanding=demanding) if certificates else None
        async with gateway(
            on,
            unix_target(start.sockets.called),
            _options(settings, start.sockets),
            context=context,
            count=metrics.http_request,
        ):
            settle_memory()
            link.tell(Ready())
            with watched_loop(settings.stall_seconds):
                await first_of(link.drain)


def _options(settings: Settings, sockets: Sockets) -> GatewayOptions:
    return GatewayOptions(
        names(settings.http_allowed_hosts),
        names(settings.http_cors_origins),
        settings.http_max_body_bytes,
        settings.max_connections,
        settings.drain_seconds,
        CONSOLE if settings.http_console == "on" else None,
        sockets.metrics and f"unix:{sockets.metrics}",
        secret(settings.metrics_token),
    )


if __name__ == "__main__":
    run_child(serve, "gateway")
