"""The echo service on our own wire, for outside tools: prints its ports, stops at end of input."""

# ruff: noqa: E402 - a script outside the package has to say first where the package is.

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import traceback
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

import uvloop
from support.wire_echo import echo_methods

from epp.wire.sockets import Listening, Server


async def serve(certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(certificate)
    plain = Server(echo_methods(), traceback.print_exception)
    secure = Server(echo_methods(), traceback.print_exception, tls=lambda: context)
    ports = {"plain": await plain.listen(Listening()), "tls": await secure.listen(Listening())}
    print(json.dumps(ports), flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    for server in (plain, secure):
        await server.drain(loop.time() + 2)
    print(json.dumps([asdict(server.counters) for server in (plain, secure)]))


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
