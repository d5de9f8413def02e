"""The command `steersman gateway`: HTTP in front of a server that runs elsewhere."""

import asyncio
import signal
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from steersman_client.credentials import Access
from steersman_service.certificates import TlsFiles, watched
from steersman_service.checks import on_this_machine
from steersman_service.cli.address import Address, read_address
from steersman_service.cli.printing import fail, say
from steersman_service.cli.server import DEFAULT_ADDRESS, TlsCa, TlsCert, TlsKey, read_access
from steersman_service.errors import StartupError
from steersman_service.http.options import CONSOLE, DEFAULT_BODY_BYTES, LOOPBACK_HOSTS, GatewayOptions, names
from steersman_service.telemetry.logs import configure_logs
from steersman_service.telemetry.traces import checked_endpoint, configure_traces, traces

HTTPS = "HTTPS"


def _https(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel=HTTPS)


def gateway(
    target: Annotated[str, typer.Option(help="The server's gRPC port: host:port.")] = DEFAULT_ADDRESS,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8080,
    allowed_hosts: Annotated[
        str, typer.Option(help="Names that it may be called by, with commas; *.example.org is any below, * any at all.")
    ] = LOOPBACK_HOSTS,
    cors_origins: Annotated[
        str, typer.Option(help="Other sites whose pages may call: https://example.org, with commas.")
    ] = "",
    max_body_bytes: Annotated[int, typer.Option(min=1024, help="Largest body taken.")] = DEFAULT_BODY_BYTES,
    console: Annotated[bool, typer.Option(help="Serve the console, at /console/.")] = True,
    metrics: Annotated[
        str,
        typer.Option(help="URL of the server's metrics, http://HOST:9464/metrics, for the console's page of traffic."),
    ] = "",
    metrics_token_file: Annotated[
        Path | None, typer.Option(help="File with the token that the metrics want: the server's metrics_token.")
    ] = None,
    max_connections: Annotated[int, typer.Option(min=1, help="Open connections; more are closed at once.")] = 1024,
    drain_seconds: Annotated[float, typer.Option(min=0, help="Longest wait for calls in flight at the end.")] = 20.0,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    http_tls_cert: Annotated[Path | None, _https("Answer HTTPS: the gateway's own certificate in PEM.")] = None,
    http_tls_key: Annotated[Path | None, _https("Its private key in PEM, without a passphrase.")] = None,
    http_tls_ca: Annotated[Path | None, _https("Callers have to show a certificate that one of these signed.")] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine, and ask its metrics, though without HTTPS.")
    ] = False,
    traces_endpoint: Annotated[
        str, typer.Option(help="OTLP receiver of traces, http://HOST:4317; needs the extra traces.")
    ] = "",
    traces_sample: Annotated[
        float, typer.Option(min=0, max=1, help="Share of traces recorded, of those that begin here.")
    ] = 0.1,
) -> None:
    """Answer HTTP (Connect, gRPC-Web, JSON) by calls of a gRPC server, until Ctrl-C or SIGTERM."""
    if metrics and not metrics.startswith(("http://", "https://")):
        fail(f"--metrics: {metrics!r} is no URL: write http://HOST:9464/metrics", 2)
    try:
        address = read_address(target)
    except ValueError as error:
        fail(f"--target: {error}", 2)
    try:
        endpoint = checked_endpoint(traces_endpoint) if traces_endpoint else None
    except ValueError as error:
        fail(f"--traces-endpoint: {error}", 2)
    access = read_access(address, tls_ca, tls_cert, tls_key, None)._replace(token=None)
    options = GatewayOptions(
        names(allowed_hosts),
        names(cors_origins),
        max_body_bytes,
        max_connections,
        drain_seconds,
        CONSOLE if console else None,
        metrics,
        _secret(metrics_token_file),
        _metrics_tls(access),
    )
    if options.metrics_token and not insecure and _is_readable(metrics):
        fail(
            "--metrics-token-file: the token would travel readable: give an https:// URL in --metrics; or --insecure", 2
        )
    files = _https_files(http_tls_cert, http_tls_key, http_tls_ca)
    if files is None and not insecure and not on_this_machine(host):
        fail(
            f"--host: other machines reach {host}, without HTTPS: give --http-tls-cert and --http-tls-key; or --insecure",
            2,
        )
    configure_logs("info", "console")
    configure_traces(endpoint, traces_sample, "gateway")
    import uvloop

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(address, access, f"[{host.strip('[]')}]" if ":" in host else host, port, options, files))
    except StartupError as error:
        fail(str(error))
    finally:
        traces().close()


def _secret(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        return file.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no text in UTF-8"
        fail(f"--metrics-token-file: {file}: {why}", 2)


def _is_readable(url: str) -> bool:
    """Whether others may read what is sent there."""
    parts = urlsplit(url)
    return parts.scheme == "http" and not on_this_machine(parts.hostname or "")


def _https_files(cert: Path | None, key: Path | None, ca: Path | None) -> TlsFiles | None:
    if cert is None or key is None:
        if cert or key or ca:
            fail("--http-tls-cert and --http-tls-key go together, and --http-tls-ca goes only with them", 2)
        return None
    return TlsFiles(cert, key, ca, prefix="--http-tls-")


def _metrics_tls(access: Access) -> ssl.SSLContext | None:
    """The metrics are those of the same server."""
    if access.tls_ca is None:
        return None
    context = ssl.create_default_context(cafile=access.tls_ca)
    if access.tls_cert is not None:
        context.load_cert_chain(access.tls_cert, access.tls_key)
    return context


class _NotCounted:
    """Of a gateway alone there are no metrics."""

    def certificate_read(self, result: str) -> None: ...

    def watch_certificate(self, expires: Callable[[], float]) -> None: ...


async def _run(
    address: Address, access: Access, host: str, port: int, options: GatewayOptions, files: TlsFiles | None
) -> None:
    from steersman_service.gateway import gateway as answering
    from steersman_service.http.server import listening

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        certificates = await stack.enter_async_context(watched(files, _NotCounted()))
        context = None
        if certificates:
            certificates.warn()
            context = certificates.context(demanding=files is not None and files.ca is not None)
        on = listening(host, port)
        await stack.enter_async_context(
            answering(
                on,
                address.target,
                options,
                channel_options=address.options,
                credentials=access.credentials(),
                context=context,
            )
        )
        scheme = "https" if context else "http"
        say(f"{scheme}://{host}:{on.getsockname()[1]} calls {address.target}")
        await stop.wait()
