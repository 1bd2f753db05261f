"""The command `epp demo`."""

import asyncio
import contextlib
import json
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import click
from rich.console import Console
from rich.live import Live

from epp.cli.demo.client import send_all
from epp.cli.demo.show import Tally, gauges, picture, print_summary
from epp.cli.demo.stack import Addresses, Stack, StartFailed
from epp.cli.demo.workload import MODEL, Shot, mixed_workload

TENANTS = 24
SIMULATOR_FLAGS = (
    f"--model={MODEL}",
    "--profile=l4-llama-8b",
    "--kv-cache-size=1280",
    "--max-model-len=16384",
    "--seed=1",
)
"""Small, slow replicas, so that a minute of traffic shows what a day does: each has room for a
third of the tenants' prefixes, and computing one anew takes a noticeable time."""


@click.command("demo")
@click.option(
    "--keep", is_flag=True, help="Leave everything running until Ctrl-C, without traffic."
)
@click.option("--seconds", default=25.0, show_default=True, help="How long each phase lasts.")
@click.option("--rate", default=6.0, show_default=True, help="Requests a second.")
@click.option(
    "--port", default=0, help="Port of the gateway; 0 takes a free one. [8081 with --keep]"
)
@click.option("--seed", default=1, show_default=True, help="Seed of the traffic.")
@click.option("--wire", type=click.Choice(["http2", "grpcio"]), default="http2", show_default=True)
def command(*, keep: bool, seconds: float, rate: float, port: int, seed: int, wire: str) -> None:
    """Start Envoy, the picker and three vLLM simulators on loopback, and send traffic through.

    The same traffic runs twice: with the picker, then with the picker killed, when Envoy goes round
    robin by itself. Ends with one line of JSON.
    """
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="epp-demo-") as folder:
        stack = Stack(
            Path(folder), simulators=3, gateway_port=port or (8081 if keep else 0), wire=wire
        )
        try:
            if keep:
                asyncio.run(stay(stack, console))
            else:
                shots = mixed_workload(seed=seed, seconds=seconds, rate=rate, tenants=TENANTS)
                click.echo(json.dumps(asyncio.run(show(stack, shots, console))))
        except StartFailed as error:
            raise click.ClickException(str(error)) from error


async def show(stack: Stack, shots: Sequence[Shot], console: Console) -> dict[str, object]:
    """Both phases; returns the summary."""
    async with stack:
        addresses = await stack.start(SIMULATOR_FLAGS)
        picked = await phase("with the picker", addresses, shots, console)
        await stack.picker.stop(signal.SIGKILL)
        console.print("the picker is killed; Envoy fails open and goes round robin")
        await forget_prefixes(addresses)
        robin = await phase("round robin", addresses, shots, console)
    print_summary(console, (picked, robin))
    return {"with_picker": picked.summary, "round_robin": robin.summary}


async def phase(name: str, addresses: Addresses, shots: Sequence[Shot], console: Console) -> Tally:
    """Send the traffic while the table is drawn anew twice a second."""
    tally = Tally(name)
    async with drawn(tally, addresses, console):
        await send_all(addresses.gateway, shots, tally.note)
    return tally


@contextlib.asynccontextmanager
async def drawn(tally: Tally, addresses: Addresses, console: Console) -> AsyncIterator[None]:
    """Keep the picture fresh while the block runs; without a terminal draw it once, at the end."""

    async def draw(live: Live) -> None:
        while True:
            live.update(picture(tally, await gauges(addresses)))
            await asyncio.sleep(0.5)

    with Live(console=console, auto_refresh=console.is_terminal, refresh_per_second=4) as live:
        drawing = asyncio.create_task(draw(live))
        try:
            yield
        finally:
            drawing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drawing
        live.update(picture(tally, await gauges(addresses)), refresh=True)
    if not console.is_terminal:  # There the last picture ends without a new line.
        console.line()


async def forget_prefixes(addresses: Addresses) -> None:
    """Empty the simulators' caches, so that both phases begin alike."""
    async with aiohttp.ClientSession() as session:
        for url in addresses.simulators:
            async with session.post(f"{url}/reset_prefix_cache") as response:
                response.raise_for_status()


async def stay(stack: Stack, console: Console) -> None:
    """Start everything, print what to try, wait for Ctrl-C."""
    async with stack:
        addresses = await stack.start(SIMULATOR_FLAGS)
        console.print(lines_to_try(addresses), markup=False, highlight=False, soft_wrap=True)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()


def lines_to_try(addresses: Addresses) -> str:
    """Commands for a shell."""
    chat = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]})
    return f"""\
Envoy, the picker and {len(addresses.simulators)} simulators are running. Ctrl-C ends them. Try:

  curl -i {addresses.gateway}/v1/chat/completions -H 'content-type: application/json' -d '{chat}'
  curl -i {addresses.gateway}/v1/models
  curl -s {addresses.debug}/debug/endpoints
  curl -s '{addresses.debug}/debug/decisions?last=1'
  curl -s {addresses.metrics}/metrics | grep llm_d_epp_
"""
