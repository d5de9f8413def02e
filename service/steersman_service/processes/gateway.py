"""The gateway in a process of its own: HTTP in, the front ends' port behind."""

from steersman_service.gateway import gateway
from steersman_service.http.options import CONSOLE, GatewayOptions, names
from steersman_service.http.server import listening
from steersman_service.processes.link import Link, Ready, first_of, run_child, settle_memory
from steersman_service.scheduling.stall import watched_loop
from steersman_service.settings import Settings, secret
from steersman_service.telemetry.metrics import Metrics

# What a front end listens on if it listens on every address -> where it is reached from here.
LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
# The way to one's own machine leads through no proxy that the environment names.
NO_PROXY = (("grpc.enable_http_proxy", 0),)


async def serve(settings: Settings, sockets: list[str], link: Link, metrics: Metrics) -> None:
    """Until the supervisor says `drain`. Raises StartupError."""
    await link.may_listen()
    on = listening(settings.http_host, settings.http_port, shared=True)
    target = _here(settings.host, settings.port)
    # A front end takes its share of connections by chance: with two for each, few are left without one.
    connections = 1 if settings.workers == 1 else 2 * settings.workers
    async with gateway(
        on,
        target,
        _options(settings),
        channel_options=NO_PROXY,
        connections=connections,
        count=metrics.http_request,
    ):
        settle_memory()
        link.tell(Ready())
        with watched_loop(settings.stall_seconds):
            await first_of(link.drain)


def _here(host: str, port: int) -> str:
    """Where this machine reaches what listens there."""
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{LOOPBACK.get(host, host)}:{port}"


def _options(settings: Settings) -> GatewayOptions:
    metrics = f"http://{_here(settings.metrics_host, settings.metrics_port)}/metrics"
    return GatewayOptions(
        names(settings.http_allowed_hosts),
        names(settings.http_cors_origins),
        settings.http_max_body_bytes,
        settings.max_connections,
        settings.drain_seconds,
        CONSOLE if settings.http_console == "on" else None,
        metrics if settings.metrics == "on" else "",
        secret(settings.metrics_token),
    )


if __name__ == "__main__":
    run_child(serve, "gateway")
