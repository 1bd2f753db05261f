"""A whole picker in the process of the test, with gauges given by hand; gRPC is the only socket.

async with hermetic([pod(0, waiting=3, kv=0.2), ...], config=TEXT) as house:
    replies = await house.ask(request_headers(...), request_body(...))
"""

import contextlib
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from prometheus_client import CollectorRegistry, generate_latest
from support.wire_server import serving_methods

from epp.app.live import LiveConfig
from epp.config.options import RunOptions
from epp.datastore import Datastore, LoraState, Sample, StoreSettings
from epp.domain.endpoint import Endpoint
from epp.flow import Flow, Rules
from epp.observe.decisions import DecisionLog
from epp.observe.logs import RefusalLog
from epp.observe.metrics import Metrics
from epp.observe.picker_metrics import PickerMetrics
from epp.observe.pool_metrics import EndpointState, PoolMetrics, PoolState
from epp.observe.reports import RequestReports
from epp.observe.request_metrics import RequestMetrics
from epp.ticket import Desk
from epp.wire.budget import ByteBudget
from epp.wire.gen.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from epp.wire.session import PROCESS, Process

POOL = "vllm-qwen3-32b-pool"


@dataclass(frozen=True)
class Gauged:
    """An endpoint and what its engine is said to report."""

    endpoint: Endpoint
    sample: Sample


def pod(number: int, waiting: float, kv: float, *adapters: str) -> Gauged:
    """`pod-i-rank-0` at 192.168.1.(i+1):8000, with active adapters."""
    endpoint = Endpoint(name=f"pod-{number}-rank-0", host=f"192.168.1.{number + 1}", port=8000)
    lora = LoraState(frozenset(adapters), frozenset(), 2)
    return Gauged(endpoint, Sample(waiting=waiting, kv_usage=kv, lora=lora))


class Fixed:
    """Priorities and rewrites by name."""

    def __init__(self, table: dict[str, Any]) -> None:
        self._table = table

    def priority(self, objective: str) -> int:
        return self._table.get(objective, 0)

    def target(self, model: str) -> str | None:
        return self._table.get(model)


@dataclass
class Hermetic:
    channel: grpc.aio.Channel
    registry: CollectorRegistry

    async def ask(self, *messages: ProcessingRequest) -> list[ProcessingResponse]:
        """Send `messages` on one stream and read it to its end."""
        method = self.channel.stream_stream(
            PROCESS,
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )
        return [reply async for reply in method(iter(messages), timeout=10)]

    def sample(self, line: str) -> float | None:
        """The value of one series on the metrics page, written as the page writes it."""
        for row in generate_latest(self.registry).decode().splitlines():
            name, _, value = row.rpartition(" ")
            if name == line:
                return float(value)
        return None


@contextlib.asynccontextmanager
async def hermetic(
    pods: Sequence[Gauged],
    *,
    config: str = "",
    priorities: dict[str, int] | None = None,
    rewrites: dict[str, str] | None = None,
) -> AsyncIterator[Hermetic]:
    log = structlog.get_logger()
    clock = time.monotonic
    store = Datastore(clock, time.time, StoreSettings(), log)
    store.set_endpoints("test", [gauged.endpoint for gauged in pods])
    for gauged in pods:
        store.scraped(gauged.endpoint.key, clock(), gauged.sample, math.inf)
    metrics, picker_metrics, registry = RequestMetrics(), PickerMetrics(), CollectorRegistry()
    states = tuple(
        EndpointState(endpoint=g.endpoint, waiting=g.sample.waiting, fresh=True) for g in pods
    )
    registry.register(Metrics(metrics, PoolMetrics(lambda: PoolState(POOL, states))))
    live = LiveConfig(
        RunOptions(config_text=config),
        store,
        picker_metrics,
        log,
        clock=clock,
        secret=b"0123456789abcdef",
    )
    refusals = RefusalLog(log, clock=clock)
    reports = RequestReports(metrics, refusals, DecisionLog(), clock=clock)
    rules = Rules(Fixed(priorities or {}), Fixed(rewrites or {}))
    flow = Flow(live.now.setup, rules, Desk(store, reports, clock), NeverFull())
    process = Process(flow, budget=ByteBudget(1 << 24))
    async with serving_methods({PROCESS: process}) as channel:
        yield Hermetic(channel, registry)
    assert store.totals().inflight_requests == 0
    assert process.budget.held == 0


class NeverFull:
    def check(self) -> None:
        """Nothing is shed."""


def completion(model: str, prompt: str) -> bytes:
    body = {"model": model, "prompt": prompt, "max_tokens": 100, "temperature": 0}
    return json.dumps(body).encode()
