"""The gateway as an ASGI application: the calls, and what it says of itself."""

import re
from collections.abc import Awaitable, Callable
from typing import Protocol

from google.rpc.status_pb2 import Status
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from steersman_service.errors import InternalError, NoSuchPath, OnlyGet, RequestError, TokenRefused
from steersman_service.http.connect import AUTHORIZATION, ConnectCalls, Server
from steersman_service.http.console import CONSOLE_PATH, Console, to_console, wants_page
from steersman_service.http.contract import methods
from steersman_service.http.guard import HEADERS, LIVE_PATH, READY_PATH, CallGuard, Counted, HostGuard, Traced
from steersman_service.http.openapi import OPENAPI_PATH, document
from steersman_service.http.options import GatewayOptions
from steersman_service.http.refusal import refused, said
from steersman_service.http.traffic import METRICS_PATH, Traffic
from steersman_service.telemetry.traces import traces

# Of answers, that a page of another site may read if it may call.
EXPOSED = ("grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after", "www-authenticate")
# Of browsers' clients, beside those that a call is made by.
ASKED = ("x-grpc-web", "x-user-agent")
PREFLIGHT_SECONDS = 7200
# Its health is that of an answer to a call for items: the bundle is loaded, and an engine is there.
READY_SERVICE = "steersman.v1.RecommendationService"
# What a caller may ask that may see the traffic.
MODEL_INFO, MODEL_INFO_SECONDS = "/steersman.v1.ModelService/GetModelInfo", 3.0

Handler = Callable[[Request], Awaitable[Response]]


class Upstream(Server, Protocol):
    """A server that is called, and asked whether it is ready."""

    async def serves(self, service: str) -> bool: ...


def gateway_app(upstream: Upstream, options: GatewayOptions, count: Callable[[str, int], None]) -> Starlette:
    """`count` is told of every request: its kind, and its status.

    It has no lifespan of its own: `upstream` is open while it is used, and a parent that it is mounted in runs the parent's."""
    listed = methods()
    calls: ASGIApp = CallGuard(ConnectCalls(upstream, listed, options.max_body_bytes), options.max_body_bytes)
    if traces().on:
        calls = Traced(calls, traces())
    console = Console(options.console) if options.console else None
    own = {
        "/": _root(console is not None and console.built),
        OPENAPI_PATH: _fixed(document(listed)),
        READY_PATH: _health(upstream, READY_SERVICE),
        LIVE_PATH: _health(upstream, ""),
        METRICS_PATH: _traffic(Traffic(options.metrics_url, options.metrics_token, options.metrics_tls), upstream),
    }
    if console:
        own |= {CONSOLE_PATH.rstrip("/"): to_console, f"{CONSOLE_PATH}{{path:path}}": console.give}
    middleware = [Middleware(Counted, count=count), Middleware(HostGuard, allowed=options.allowed_hosts)]
    if options.cors_origins:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=options.cors_origins,
                allow_methods=("GET", "POST"),
                allow_headers=[name for name in (*HEADERS, *ASKED) if name != "host"],
                expose_headers=EXPOSED,
                max_age=PREFLIGHT_SECONDS,
            )
        )
    return Starlette(
        routes=[
            *(Route(path, handler, methods=["GET"]) for path, handler in own.items()),
            *(Route(method.path, calls) for method in listed),
        ],
        middleware=middleware,
        exception_handlers={404: _no_such_path, 405: _only_get, Exception: _failed},
    )


def _index(*, console: bool) -> dict[str, object]:
    by_service: dict[str, list[str]] = {}
    for method in methods():
        by_service.setdefault(method.service, []).append(method.path)
    about = {"openapi": OPENAPI_PATH, "health": READY_PATH, "metrics": METRICS_PATH}
    return {"name": "steersman", "services": by_service, **about, **({"console": CONSOLE_PATH} if console else {})}


def _root(console: bool) -> Handler:
    """People are sent to the console, where there is one; programs are told what there is."""
    index = JSONResponse(_index(console=console), headers={"vary": "accept"})

    async def root(request: Request) -> Response:
        return await to_console(request) if console and wants_page(request) else index

    return root


def _fixed(content: dict[str, object]) -> Handler:
    response = JSONResponse(content)

    async def give(request: Request) -> Response:
        return response

    return give


def _traffic(traffic: Traffic, upstream: Upstream) -> Handler:
    """For those whom the server tells about itself: one that does not answer has allowed nobody."""

    async def give(request: Request) -> Response:
        sent = [(AUTHORIZATION, value) for value in request.headers.getlist(AUTHORIZATION)]
        if any(not re.fullmatch(HEADERS[AUTHORIZATION][0], value) for _, value in sent):
            return refused(TokenRefused(f"the header authorization has to be {HEADERS[AUTHORIZATION][1]}"))
        told = await upstream.call(MODEL_INFO, b"", MODEL_INFO_SECONDS, sent)
        if isinstance(told, Status):
            return said(told)
        try:
            return JSONResponse(await traffic.read(), headers={"cache-control": "no-store"})
        except RequestError as error:
            return refused(error)

    return give


def _health(upstream: Upstream, service: str) -> Handler:
    async def health(request: Request) -> Response:
        serves = await upstream.serves(service)
        return JSONResponse({"status": "SERVING" if serves else "NOT_SERVING"}, 200 if serves else 503)

    return health


async def _no_such_path(request: Request, error: Exception) -> Response:
    return refused(NoSuchPath())


async def _only_get(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refused(OnlyGet(), {"allow": "GET, HEAD"})


async def _failed(request: Request, error: Exception) -> Response:
    return refused(InternalError())
