"""What a soak runs: model servers that can be killed, a picker with files to reload, Envoy."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import yaml
from support.envoy import envoy
from support.gateway import House, Variant, gateway_of, write_endpoints
from support.picker import picker

from epp.cli.envoy_clusters import http_options
from epp.cli.envoy_config import config
from epp.config.default import DEFAULT_CONFIG
from epp.wire.tls import CERTIFICATE, KEY, self_signed

BACKENDS = 3
START_SECONDS = 30.0
CONNECT_SECONDS = 10.0
CONNECTION_SECONDS = 23.0
"""How long Envoy keeps a connection to the picker: new ones are what new certificates are for."""


class Backend:
    """One model server's process; keeps its port over restarts."""

    def __init__(self) -> None:
        self.host, self.port = "127.0.0.1", 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(Path(__file__).parent / "soak_backend.py"), str(self.port)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_SECONDS)
        assert line, f"no model server on port {self.port}"
        self.port = json.loads(line)["port"]

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.communicate()


class Certificates:
    """`tls.crt` and `tls.key` as the kubelet mounts a secret: one link moves both at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        folder.mkdir()
        self.issue()
        for name in (CERTIFICATE, KEY):
            (folder / name).symlink_to(Path("..data") / name)

    def issue(self) -> bytes:
        """A new pair in place of the old one; the certificate in DER."""
        self._number += 1
        made = self_signed(dt.datetime.now(dt.UTC))
        data = self.folder / f"..{self._number}"
        data.mkdir()
        (data / CERTIFICATE).write_bytes(made.certificate)
        (data / KEY).write_bytes(made.key)
        link = self.folder / "..next"
        link.symlink_to(data.name)
        link.replace(self.folder / "..data")
        return ssl.PEM_cert_to_DER_cert(made.certificate.decode())


def written(path: Path, text: str) -> None:
    """The file with another text, at once."""
    beside = path.with_suffix(".next")
    beside.write_text(text)
    os.replace(beside, path)


class Stand:
    """Everything that runs, and the files it reads."""

    def __init__(self, house: House, backends: list[Backend], certificates: Certificates) -> None:
        self.house = house
        self.backends = backends
        self.certificates = certificates
        self.endpoints = house.folder / "endpoints.yaml"
        self.config = house.folder / "config.yaml"

    async def shown_certificate(self) -> bytes:
        """What the picker shows a connection that is made now, in DER."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection(*self.house.picker.address, ssl=context)
        try:
            return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        finally:
            writer.transport.abort()


@asynccontextmanager
async def standing(variant: Variant) -> AsyncIterator[Stand]:
    """Model servers, a picker with the default policy and certificate files, Envoy; all ready."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backends = [Backend() for _ in range(BACKENDS)]
        for backend in backends:
            stack.push_async_callback(backend.kill)
            await backend.start()
        certificates = Certificates(folder / "certificates")
        written(folder / "config.yaml", DEFAULT_CONFIG)
        running = await stack.enter_async_context(
            picker(
                f"--endpoints={write_endpoints(folder, backends)}",
                f"--config-file={folder / 'config.yaml'}",
                f"--cert-path={certificates.folder}",
                f"--wire={variant.wire}",
                *variant.picker_flags,
            )
        )
        front = await stack.enter_async_context(envoy(gateway(variant, running, backends)))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Stand(House(variant, [], running, front, http, folder), backends, certificates)


def gateway(variant: Variant, running, backends: list[Backend]) -> str:
    """Envoy as `epp envoy-config` sets it up, but that it renews its connections to the picker.

    And it has the patience for each that a busy machine needs: a second is short for a handshake
    where everything shares two cores.
    """
    tree = config(gateway_of(variant, running, backends))
    (cluster,) = (c for c in tree["static_resources"]["clusters"] if c["name"] == "ext_proc")
    cluster["connect_timeout"] = f"{CONNECT_SECONDS:g}s"
    (name,) = http_options({})
    options = cluster["typed_extension_protocol_options"][name]
    common = options.setdefault("common_http_protocol_options", {})
    common["max_connection_duration"] = f"{CONNECTION_SECONDS:g}s"
    return yaml.safe_dump(tree)
