"""Routes, and the life of one port: start, serve, drain, stop."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from aiohttp import web

from vllm_sim.kvevents.encode import EventDialect
from vllm_sim.kvevents.publisher import EndpointError, Publisher
from vllm_sim.server.admin import Admin
from vllm_sim.server.anthropic import Anthropic
from vllm_sim.server.clock import SimClock
from vllm_sim.server.dev import Dev
from vllm_sim.server.faults import Dice
from vllm_sim.server.lab import Lab
from vllm_sim.server.middleware import Around
from vllm_sim.server.models import Models
from vllm_sim.server.openai import OpenAI
from vllm_sim.server.plain import Plain
from vllm_sim.server.remote import RemotePrefills
from vllm_sim.server.replica import Replica
from vllm_sim.server.responses import Responses
from vllm_sim.server.site import Site
from vllm_sim.server.tls import certificate_of, self_signed
from vllm_sim.server.tokensio import TokensIO

if TYPE_CHECKING:
    import ssl

    from vllm_sim.options import SimOptions

MIB = 1024 * 1024
CLOSE_S = 0.5


class Server:
    """One listening port with one engine behind it."""

    def __init__(self, options: SimOptions) -> None:
        self._options = options
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self.site: Site | None = None

    @property
    def port(self) -> int:
        """The port it listens on; 0 before `start`."""
        return self.site.port if self.site else 0

    async def start(self) -> None:
        """Binds, then starts the engine. OSError when the port is taken, EndpointError when that of
        the events is, CertificateError."""
        runner, listener = await self._listen()
        self._runner = runner
        site = self.site
        assert site is not None
        await listener.start()
        site.port = runner.addresses[0][1]
        if not site.options.pod:
            site.options = replace(site.options, pod=f"vllm-sim-{site.port}")
        try:
            self._open_events(site)
        except EndpointError:
            await self.stop()
            raise
        self._tasks.append(asyncio.create_task(site.replica.run()))

    async def _listen(self) -> tuple[web.AppRunner, web.TCPSite]:
        options = self._options
        clock = SimClock(options.time_scale)
        replica = Replica(options, clock, None)
        models = Models(options.names, options.model, options.lora_modules, replica.model_len)
        remote = RemotePrefills(secure=options.transport.secure)
        site = Site(options, clock, replica, models, remote, dice=Dice(options.seed))
        self.site = site
        runner = web.AppRunner(
            application(site), handler_cancellation=True, access_log=None, shutdown_timeout=CLOSE_S
        )
        context = self._secured()
        await runner.setup()
        return runner, web.TCPSite(
            runner, options.host, options.port, reuse_address=True, ssl_context=context
        )

    def _secured(self) -> ssl.SSLContext | None:
        """What connections are encrypted with, None for plain text. CertificateError."""
        if self._options.transport.self_signed:
            return self_signed()
        certificate = certificate_of(self._options.transport)
        if certificate is None:
            return None
        self._tasks.append(asyncio.create_task(certificate.follow()))
        return certificate.context

    def _open_events(self, site: Site) -> None:
        events = site.options.events
        if not events.endpoint:
            return
        rank = site.replica.rank
        topic = events.topic or f"kv@{site.options.reachable}:{site.port}@{site.options.names[0]}"
        dialect = EventDialect.of(
            site.options.vllm_version, map_form=events.map_form, int_hashes=events.int_hashes
        )
        publisher = Publisher(events, topic, dialect, rank=rank, seed=site.options.seed)
        site.replica.publisher = publisher
        self._tasks.append(asyncio.create_task(publisher.run()))

    async def drain(self) -> None:
        """Not ready any more; what is open may finish within the drain time."""
        assert self.site is not None
        self.site.draining = True
        await self.site.replica.drained(self._options.drain_s)

    async def stop(self) -> None:
        """Closes everything at once."""
        if self._runner is not None:
            await self._runner.cleanup()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.site is not None:
            await self.site.remote.close()
            if self.site.replica.publisher is not None:
                self.site.replica.publisher.close()


def application(site: Site) -> web.Application:
    """Every route of the server."""
    around = Around(site)
    app = web.Application(
        middlewares=[around.middleware()], client_max_size=site.options.max_body_mb * MIB
    )
    app.on_response_prepare.append(around.headers)
    app.add_routes([*_model_routes(site), *_plain_routes(site)])
    app.add_routes([*_dev_routes(site), *_lab_routes(site)])
    return app


def _model_routes(site: Site) -> list[web.RouteDef]:
    openai, anthropic, ids = OpenAI(site), Anthropic(site), TokensIO(site)
    return [
        web.post("/v1/chat/completions", openai.chat),
        web.post("/v1/completions", openai.completions),
        web.post("/v1/chat/completions/render", ids.render_chat),
        web.post("/v1/completions/render", ids.render_completion),
        web.post("/v1/messages/render", ids.render_messages),
        web.post("/v1/responses/render", ids.render_responses),
        web.post("/v1/messages", anthropic.messages),
        web.post("/v1/messages/count_tokens", anthropic.count_tokens),
        web.post("/v1/responses", Responses(site).create),
        web.post("/v1/embeddings", ids.embeddings),
        web.post("/inference/v1/generate", ids.generate),
    ]


def _plain_routes(site: Site) -> list[web.RouteDef]:
    plain = Plain(site)
    routes = [
        web.get("/v1/models", plain.models, allow_head=False),
        web.get("/version", plain.version),
        web.get("/load", plain.load),
        web.get("/health", plain.health),
        web.get("/health/ready", plain.ready),
        web.get("/ping", plain.health),
        web.post("/ping", plain.health),
        web.post("/tokenize", plain.tokenize),
        web.post("/detokenize", plain.detokenize),
        web.get("/kv_event_sources", plain.event_sources),
        web.get("/query", plain.query),
    ]
    if site.options.doors.loras:
        routes += [
            web.post("/v1/load_lora_adapter", plain.load_lora),
            web.post("/v1/unload_lora_adapter", plain.unload_lora),
        ]
    return routes


def _dev_routes(site: Site) -> list[web.RouteDef]:
    dev, doors = Dev(site), site.options.doors
    if not doors.dev:
        return []
    return [*dev.routes, *(dev.sleep_routes if doors.sleep else ())]


def _lab_routes(site: Site) -> list[web.RouteDef]:
    lab, admin = Lab(site), Admin(site)
    return [
        web.get("/admin/config", admin.show),
        web.post("/admin/config", admin.change),
        web.get("/fake_metrics", admin.show_fakes),
        web.post("/fake_metrics", admin.set_fakes),
        web.delete("/fake_metrics", admin.clear_fakes),
        web.get("/metrics", lab.metrics),
        web.get("/sim/state", lab.state),
        web.get("/sim/faults", lab.get_faults),
        web.post("/sim/faults", lab.set_faults),
        web.delete("/sim/faults", lab.clear_faults),
        web.post("/sim/kv_read", lab.kv_read),
    ]
