"""What admission costs: `python test/bench/bench_admission.py`.

The request path without a wire, from intake to end, under the default policy: flow control off, on
with room, and on in overload with a queue of 1,000; then the queue alone, at several numbers of
flows. CPU time in microseconds, the best of several rounds. `--flood 20000` sends so many at once.
"""

import argparse
import asyncio
import inspect
import platform
import sys
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import process_time

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from support.pools import pool, tools  # noqa: E402
from support.queues import band, flow_settings, levels_of, waiting  # noqa: E402
from support.stores import store_of  # noqa: E402

from epp.admission.machine import Machine  # noqa: E402
from epp.app.live import LiveConfig  # noqa: E402
from epp.app.picker import NoObjectives, NoRewrites  # noqa: E402
from epp.config.options import RunOptions  # noqa: E402
from epp.datastore import Sample  # noqa: E402
from epp.domain.endpoint import Endpoint  # noqa: E402
from epp.domain.path import Intake  # noqa: E402
from epp.domain.request import Head  # noqa: E402
from epp.domain.response import Ending, ResponseHead, ResponseMode  # noqa: E402
from epp.errors import QueueFull  # noqa: E402
from epp.flow import Flow, Rules  # noqa: E402
from epp.observe.decisions import DecisionLog  # noqa: E402
from epp.observe.logs import RefusalLog, build_log  # noqa: E402
from epp.observe.picker_metrics import PickerMetrics  # noqa: E402
from epp.observe.reports import RequestReports  # noqa: E402
from epp.observe.request_metrics import RequestMetrics  # noqa: E402
from epp.plugins.fairness.deficit import DeficitRoundRobinFairnessPolicy  # noqa: E402
from epp.ticket import Desk  # noqa: E402

BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hello there"}]}'
HEADERS = {":method": "POST", ":path": "/v1/chat/completions"}
ANSWERED = ResponseHead(200, {":status": "200"}, None)
OFF = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: approx-prefix-cache-producer
- type: expected-work-scorer
"""
ON = OFF + "- {type: concurrency-detector, parameters: {maxConcurrency: 100}}\n"
ON += "featureGates: [flowControl]\n"
ON += "flowControl: {saturationDetector: {pluginRef: concurrency-detector}}\n"
LEARNED = OFF + "featureGates: [flowControl]\n"
FULL = ON.replace("maxConcurrency: 100", "maxConcurrency: 1")


class NeverFull:
    def check(self) -> None: ...


def flow_of(config: str, endpoints: int) -> Flow:
    """The request path of a picker among so many fresh endpoints."""
    log = build_log(sys.stderr, encoder="json", verbosity=0)
    known = [Endpoint(name=f"p{n}", host=f"10.0.0.{n}", port=80) for n in range(endpoints)]
    clock = time.monotonic
    store = store_of(*known, clock=Now())
    for endpoint in store.endpoints:
        sample = Sample(running=2, kv_usage=0.1, kv_blocks=20_000, block_size=16)
        store.scraped(endpoint.key, clock(), sample, 3600)
    metrics = PickerMetrics()
    live = LiveConfig(
        RunOptions(config_text=config), store, metrics, log, clock=clock, secret=bytes(32)
    )
    refusals = RefusalLog(log, clock=clock)
    reports = RequestReports(RequestMetrics(), refusals, DecisionLog(), clock=clock)
    desk = Desk(store, reports, clock)
    return Flow(live.now.setup, Rules(NoObjectives(), NoRewrites()), desk, NeverFull())


class Now:
    """The clock a store wants."""

    def __call__(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


def intake(tenant: int = 0) -> Intake:
    headers = {**HEADERS, "x-gateway-inference-fairness-id": f"t{tenant}"}
    return Intake(Head(headers, 100), BODY, None, ResponseMode.WATCH)


def microseconds(call: Callable[[], object], times: int, rounds: int = 7) -> float:
    best = float("inf")
    for _ in range(rounds):
        began = process_time()
        for _ in range(times):
            call()
        best = min(best, process_time() - began)
    return best / times * 1e6


def with_room(config: str) -> float:
    flow = flow_of(config, 10)

    def once() -> None:
        ticket = flow.decide(intake())
        assert not inspect.isawaitable(ticket)
        ticket.response_started(ANSWERED)
        ticket.ended(Ending.COMPLETE)

    return microseconds(once, 2000)


async def overloaded(tenants: int, queue: int = 1000, served: int = 3000) -> float:
    """Each request waits behind `queue` others; one ends, one goes, one comes."""
    flow = flow_of(FULL, 10)
    tickets = [flow.decide(intake()) for _ in range(10)]
    tasks = [flow.decide(intake(n % tenants)) for n in range(queue)]
    await asyncio.sleep(0)
    done: asyncio.Queue = asyncio.Queue()
    for task in tasks:
        task.add_done_callback(done.put_nowait)
    began = process_time()
    for n in range(served):
        ticket = tickets.pop(0)
        ticket.response_started(ANSWERED)
        ticket.ended(Ending.COMPLETE)
        task = flow.decide(intake(n % tenants))
        task.add_done_callback(done.put_nowait)
        tickets.append((await done.get()).result())
    took = process_time() - began
    for task in [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]:
        task.cancel()
    await asyncio.sleep(0.01)
    return took / served * 1e6


def queue_alone(flows: int, queue: int = 2000) -> tuple[float, float]:
    """One in and one out of a queue of so many: strict, and deficit round robin."""
    params = DeficitRoundRobinFairnessPolicy.Params()
    fair = band(fairness=DeficitRoundRobinFairnessPolicy(params, tools()), max_requests=10**6)
    levels = levels_of(pool(inflight_requests=[0]))

    def cost(settings) -> float:
        machine = Machine(flow_settings(default=settings))
        number = 0

        def come() -> None:
            nonlocal number
            number += 1
            each = waiting(number, flow=f"f{number % flows}", workload=f"w{number % flows}")
            machine.offer(each, 0.0)

        for _ in range(queue):
            come()

        def once() -> None:
            come()
            machine.next(levels, {}, 0.0)

        return microseconds(once, 300, 3)

    return cost(band(max_requests=10**6)), cost(fair)


async def flood(count: int) -> None:
    """So many at once against ten endpoints that take ten each; nothing ever may be left."""
    flow = flow_of(ON.replace("maxConcurrency: 100", "maxConcurrency: 10"), 10)
    tracemalloc.start()
    began, outcomes, open_ones = time.perf_counter(), Counter[str](), []
    tasks = []
    for n in range(count):
        try:
            sent = flow.decide(intake(n))
        except QueueFull:
            outcomes["429"] += 1
            continue
        (tasks if inspect.isawaitable(sent) else open_ones).append(sent)
    held = tracemalloc.get_traced_memory()[0]
    while tasks or open_ones:
        for ticket in open_ones:
            ticket.ended(Ending.COMPLETE)
            outcomes["200"] += 1
        open_ones.clear()
        await asyncio.sleep(0)
        done = [task for task in tasks if task.done()]
        open_ones = [task.result() for task in done]
        gone = set(done)
        tasks = [task for task in tasks if task not in gone] if done else tasks
    took = time.perf_counter() - began
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    print(f"{count} at once: {dict(outcomes)} in {took:.1f} s (traced)")
    print(f"held at the height {held / 2**20:.1f} MiB, after {left / 2**20:.1f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--flood", type=int, default=0)
    asked = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}")
    if asked.flood:
        asyncio.run(flood(asked.flood))
        return
    for name, config in (("off", OFF), ("on, fixed limit", ON), ("on, learned limit", LEARNED)):
        print(f"{name + ', with room':32} {with_room_in_loop(config):8.1f} us a request")
    for tenants in (1, 10, 1000):
        took = asyncio.run(overloaded(tenants))
        print(f"{f'on, 1000 wait, {tenants} tenants':32} {took:8.1f} us a request")
    for flows in (1, 10, 100, 1000):
        strict, fair = queue_alone(flows)
        print(f"queue alone, {flows:4} flows: strict {strict:7.1f} us, fair {fair:7.1f} us")


def with_room_in_loop(config: str) -> float:
    async def inside() -> float:
        return with_room(config)

    return asyncio.run(inside())


if __name__ == "__main__":
    main()
