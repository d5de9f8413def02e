"""Processes of one server that die, or stand still."""

import asyncio
import os
import signal

from bench.chaos.parts import until
from bench.chaos.proxy import Proxy
from bench.chaos.rows import row
from bench.chaos.stage import DRAIN_DELAY_SECONDS, STALL_SECONDS, Stage, gone, until_whole

AFTER_SECONDS = 8.0
GONE_SECONDS = 40.0
TWO = ("--workers", "2", "--engines", "1")


@row("front-end-killed", parts="2 front ends, 1 engine host", fault="SIGKILL of a front end", no_errors=True)
async def front_end_killed(stage: Stage) -> None:
    store = await stage.valkey()
    replica = await stage.started(stage.replica("server", *TWO, store=store.url))
    async with stage.load(replica.address) as (_, fault):
        os.kill(replica.children("front_end")[0], signal.SIGKILL)
        fault.ends()
        await until_whole(replica)
        await asyncio.sleep(AFTER_SECONDS)


@row("engine-host-killed", parts="2 front ends, 1 engine host", fault="SIGKILL of the only engine host")
async def engine_host_killed(stage: Stage) -> None:
    store = await stage.valkey()
    replica = await stage.started(stage.replica("server", *TWO, store=store.url))
    async with stage.load(replica.address) as (_, fault):
        os.kill(replica.children("engine_host")[0], signal.SIGKILL)
        fault.ends()
        await until_whole(replica)
        await asyncio.sleep(AFTER_SECONDS)


@row(
    "engine-host-hung",
    parts="2 front ends, 1 engine host",
    fault=f"SIGSTOP of the only engine host, for good; STEERSMAN_STALL_SECONDS={STALL_SECONDS:g}",
)
async def engine_host_hung(stage: Stage) -> None:
    store = await stage.valkey()
    replica = await stage.started(stage.replica("server", *TWO, store=store.url))
    async with stage.load(replica.address) as (_, fault):
        (hung,) = replica.children("engine_host")
        os.kill(hung, signal.SIGSTOP)
        fault.ends()
        await gone([hung], GONE_SECONDS)
        await until_whole(replica)
        await asyncio.sleep(AFTER_SECONDS)


@row("gateway-killed", parts="a server; load over HTTP, without retries", fault="SIGKILL of the gateway")
async def gateway_killed(stage: Stage) -> None:
    store = await stage.valkey()
    replica = await stage.started(
        stage.replica("server", "--workers", "1", "--engines", "0", store=store.url, http=True)
    )
    async with stage.load(f"127.0.0.1:{replica.http_port}", http=True, scenario=replica.address) as (_, fault):
        os.kill(replica.children("gateway")[0], signal.SIGKILL)
        fault.ends()
        await until_whole(replica)
        await asyncio.sleep(AFTER_SECONDS)


@row(
    "supervisor-killed",
    parts="2 front ends, 1 engine host, gateway, embedded Valkey",
    fault="SIGKILL of the supervisor; started again once its children are gone",
)
async def supervisor_killed(stage: Stage) -> None:
    replica = await stage.started(stage.replica("server", *TWO, store=None, http=True))
    async with stage.load(replica.address) as (_, fault):
        children = replica.children()
        await replica.kill()
        stage.note(f"the children had ended {await gone(children, GONE_SECONDS):.1f} s after it")
        await replica.start()
        fault.ends()
        await asyncio.sleep(AFTER_SECONDS)


@row(
    "everything-killed",
    parts="2 front ends, 1 engine host, embedded Valkey",
    fault="SIGKILL of all processes at once, the store first; started again",
)
async def everything_killed(stage: Stage) -> None:
    replica = await stage.started(stage.replica("server", *TWO, store=None))
    async with stage.load(replica.address) as (_, fault):
        children = replica.children()
        valkey = int((replica.folder / "data" / "valkey" / "valkey.pid").read_text())
        for pid in (valkey, *children):
            os.kill(pid, signal.SIGKILL)
        await replica.kill()
        await replica.start()
        fault.ends()
        await asyncio.sleep(AFTER_SECONDS)


@row(
    "client-connections-reset",
    parts="a server behind a TCP proxy",
    fault="the proxy resets every connection of the clients, five times, one second apart",
    no_errors=True,
)
async def client_connections_reset(stage: Stage) -> None:
    store = await stage.valkey()
    replica = await stage.started(stage.replica("server", "--workers", "1", "--engines", "0", store=store.url))
    proxy = await stage.started(Proxy(replica.port))
    async with stage.load(proxy.address) as (_, fault):
        resets = 0
        for _ in range(5):
            resets += proxy.reset()
            await asyncio.sleep(1)
        fault.ends()
        stage.note(f"{resets} connections reset")
        stage.expect(resets >= 5, "the proxy had no connections to reset")
        await asyncio.sleep(AFTER_SECONDS)


@row("drain", parts="a server alone", fault="SIGTERM under load; started again", may_lose="")
async def drain(stage: Stage) -> None:
    """Without another server behind the address, calls fail from the end of the delay until the start."""
    store = await stage.valkey()
    replica = stage.replica("server", "--workers", "2", "--engines", "0", store=store.url)
    replica.drain_delay_seconds = DRAIN_DELAY_SECONDS
    await stage.started(replica)
    async with stage.load(replica.address) as (_, fault):
        replica.send(signal.SIGTERM)
        await replica.gone()
        stage.expect(bool(replica.events("stopped")), "it did not end by itself")
        await replica.start()
        fault.ends()
        await asyncio.sleep(AFTER_SECONDS)
    await until(lambda: replica.alive, "the server")
