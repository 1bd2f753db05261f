"""A picker without a process of its own, behind real Envoy, before simulators.

What a cluster says elsewhere is said here by the client: an objective is called by its priority.
Nothing is scraped: it suits detectors that count what is in flight.
"""

import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from support.envoy import envoy
from support.gateway import CHAT, MODEL, SIM_FLAGS, Answer, chat_body
from support.sims import Simulator, simulators

from epp.admission import Eviction, FlowControl
from epp.admission.build import dispatch_observers, flow_settings
from epp.assemble import House, assemble_text
from epp.cli.envoy_config import config_yaml
from epp.cli.envoy_template import Gateway
from epp.datastore import Datastore, StoreSettings
from epp.domain.endpoint import Endpoint
from epp.flow import Flow, Rules, Setup
from epp.observe.flow_metrics import FlowMetrics
from epp.plugins.catalog import CATALOGUE
from epp.request.reader import RequestReader
from epp.scheduling.subset import in_subset
from epp.ticket import Desk
from epp.wire.budget import ByteBudget
from epp.wire.session import PROCESS, Process
from epp.wire.sockets import Listening, Server

__all__ = ["MODEL", "Inline", "inline_picker"]


class Told:
    """Reports to nobody; how placed requests ended is kept."""

    def __init__(self):
        self.endings = []

    def placed(self, *told): ...

    def refused(self, *told): ...

    def response_started(self, *told): ...

    def first_chunk(self, *told): ...

    def chunk_gap(self, *told): ...

    def ended(self, request, decision, outcome):
        self.endings.append(outcome.ending)


class ByName:
    """Objectives called by their priority; no rewrites, no ceiling."""

    def priority(self, objective):
        return int(objective)

    def target(self, model): ...

    def check(self): ...


@dataclass
class Inline:
    """Everything that runs."""

    url: str
    sims: list[Simulator]
    client: aiohttp.ClientSession
    control: FlowControl
    metrics: FlowMetrics
    told: Told
    store: Datastore
    process: Process

    async def chat(self, content="hello", *, priority=0, headers=None, **fields) -> Answer:
        named = {"x-gateway-inference-objective": str(priority), **(headers or {})}
        body = chat_body(content, **fields)
        async with self.client.post(self.url + CHAT, json=body, headers=named) as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, found, await response.read())

    @property
    def counters(self):
        """What is zero when nothing goes on."""
        return {
            "waiting": len(self.control.machine),
            "inflight": self.store.totals().inflight_requests,
            "streams": self.process.open_streams,
            "held": self.process.budget.held,
        }


def assembled(store, clock, **flow):
    """Flow control with these settings; `maxConcurrency` requests at each endpoint."""
    most = flow.pop("maxConcurrency", 2)
    detector = {"type": "concurrency-detector", "parameters": {"maxConcurrency": most}}
    config = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "featureGates": ["flowControl"],
        "plugins": [{"type": "expected-work-scorer"}, detector],
        "flowControl": {"saturationDetector": {"pluginRef": "concurrency-detector"}, **flow},
    }
    house = House(clock=clock, random=random.Random(1), shelf=store.shelf, secret=b"k" * 16)
    return assemble_text(json.dumps(config), "test", CATALOGUE, house)


@asynccontextmanager
async def inline_picker(
    request="buffered", response="watch", *, replicas=3, sim_flags=(), **flow
) -> AsyncIterator[Inline]:
    """`flow` is the block `flowControl` of a configuration, and `maxConcurrency`."""
    clock = time.monotonic
    async with simulators(replicas, *SIM_FLAGS, *sim_flags) as sims:
        store = Datastore(clock, clock, StoreSettings())
        pods = [Endpoint(name=sim.name, host=sim.host, port=sim.port, uid=sim.name) for sim in sims]
        store.set_endpoints("test", pods)
        assembly, metrics, told = assembled(store, clock, **flow), FlowMetrics("test"), Told()
        eviction = Eviction()
        control = FlowControl(
            flow_settings(assembly.plan, assembly.instances),
            dispatch_observers(assembly.plan, assembly.instances),
            store,
            in_subset,
            metrics,
            clock,
            eviction,
        )
        setup = Setup(RequestReader(assembly.policy.parsers), control, assembly.policy)
        desk = Desk(store, told, clock)
        path = Flow(setup, Rules(ByName(), ByName()), desk, ByName())
        process = Process(path, budget=ByteBudget(64 << 20))
        eviction.connect(desk.open.values, process.revoke)
        faults = []
        server = Server({PROCESS: process}, faults.append)
        port = await server.listen(Listening())
        pool = tuple((sim.host, sim.port) for sim in sims)
        gateway = Gateway(
            request=request,
            response=response,
            pickers=(("127.0.0.1", port),),
            picker_tls=False,
            endpoints=pool,
            trust_client_headers=True,
        )
        try:
            async with (
                envoy(config_yaml(gateway)) as front,
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as client,
            ):
                yield Inline(front.url, sims, client, control, metrics, told, store, process)
        finally:
            await server.close()
        assert faults == []
