"""One process: a server for each data-parallel rank, until a signal ends it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING

import uvloop

from vllm_sim.server.app import Server

if TYPE_CHECKING:
    from vllm_sim.options import SimOptions


def serve(options: SimOptions) -> None:
    """Serves until SIGTERM or SIGINT, then drains. OSError when a port is taken."""
    uvloop.run(_serve(options))


async def _serve(options: SimOptions) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    servers = await _start(options)
    ports = [server.port for server in servers]
    line: dict[str, object] = {"ready": True, "port": ports[0]}
    if len(ports) > 1:
        line["ports"] = ports
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    await stopped.wait()
    await asyncio.gather(*(server.drain() for server in servers))
    await asyncio.gather(*(server.stop() for server in servers))


async def _start(options: SimOptions) -> list[Server]:
    if options.data_parallel_size == 1:
        servers = [Server(options)]
        await servers[0].start()
        return servers
    servers = []
    for rank in range(options.data_parallel_size):
        server = Server(options.for_rank(rank))
        await server.start()
        servers.append(server)
    sites = {site.replica.rank: site for server in servers if (site := server.site)}
    for site in sites.values():
        site.peers = sites
    return servers
