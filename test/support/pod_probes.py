"""A kubelet's probes: HTTP, gRPC, TCP and exec, with its thresholds and its periods."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Object = dict[str, Any]
Run = Callable[[Sequence[str], float], Awaitable[int]]
PERIOD_SECONDS = 10
TIMEOUT_SECONDS = 1


async def probe(spec: Object, container: Object, address: str, run: Run) -> str:
    """Empty for success, else what failed. `run` executes a command in the container."""
    seconds = spec.get("timeoutSeconds", TIMEOUT_SECONDS)
    try:
        if "httpGet" in spec:
            return await http_get(spec["httpGet"], container, address, seconds)
        if "grpc" in spec:
            return await grpc_check(spec["grpc"], address, seconds)
        if "exec" in spec:
            code = await run(spec["exec"]["command"], seconds)
            return f"exit code {code}" if code else ""
        return await tcp_connect(port_of(spec["tcpSocket"]["port"], container), address, seconds)
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        return f"{type(error).__name__} {error}"


async def http_get(action: Object, container: Object, address: str, seconds: float) -> str:
    """Any status from 200 to 399 is a success."""
    port = port_of(action["port"], container)
    scheme = action.get("scheme", "HTTP").lower()
    url = f"{scheme}://{action.get('host') or address}:{port}{action.get('path', '/')}"
    headers = {each["name"]: each["value"] for each in action.get("httpHeaders", ())}
    timeout = aiohttp.ClientTimeout(total=seconds)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.get(url, headers=headers, ssl=False, allow_redirects=False) as answer,
    ):
        return "" if 200 <= answer.status < 400 else f"HTTP {answer.status}"


async def grpc_check(action: Object, address: str, seconds: float) -> str:
    request = health_pb2.HealthCheckRequest(service=action.get("service") or "")
    async with grpc.aio.insecure_channel(f"{address}:{action['port']}") as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name} {error.details()}"
    serving = health_pb2.HealthCheckResponse.SERVING
    return "" if answer.status == serving else f"status {answer.status}"


async def tcp_connect(port: int, address: str, seconds: float) -> str:
    async with asyncio.timeout(seconds):
        _, writer = await asyncio.open_connection(address, port)
    writer.close()
    return ""


def port_of(port: int | str, container: Object) -> int:
    """A number, or the name of one of the container's ports."""
    if isinstance(port, int):
        return port
    return next(
        each["containerPort"] for each in container.get("ports", ()) if each.get("name") == port
    )


async def watch_probe(
    spec: Object, once: Callable[[], Awaitable[str]], report: Callable[[bool, str], None]
) -> None:
    """Probe for ever; `report` hears each time a threshold is reached, and then each result."""
    await asyncio.sleep(spec.get("initialDelaySeconds", 0))
    needed = {True: spec.get("successThreshold", 1), False: spec.get("failureThreshold", 3)}
    last, streak = None, 0
    while True:
        said = await once()
        good = not said
        streak = streak + 1 if good == last else 1
        last = good
        if streak >= needed[good]:
            report(good, said)
        await asyncio.sleep(spec.get("periodSeconds", PERIOD_SECONDS))
