"""CPU of scraping: one page, one view, and 100 endpoints idle and busy over real sockets.

Run: python test/bench/bench_scrape.py [seconds]. The far side is another process, so what is
printed is the CPU of the side that asks, and of nothing else. BENCH_JSON=file writes the numbers.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import uvloop  # noqa: E402
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram  # noqa: E402
from prometheus_client.exposition import generate_latest  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402

from epp.datastore import Datastore, Sample, StoreSettings  # noqa: E402
from epp.domain.endpoint import Endpoint  # noqa: E402
from epp.domain.response import Ending  # noqa: E402
from epp.scrape import FetchSettings, HttpFetch, Scraper, ScrapeSettings  # noqa: E402
from epp.scrape.dialects import VLLM  # noqa: E402

ENDPOINTS = 100
GAUGES = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
COUNTERS = ("prompt_tokens", "prefix_cache_hits", "prefix_cache_queries", "generation_tokens")


def vllm_page(requests: int, blocks: int = 27_000) -> bytes:
    """A page as vLLM serves it: some 40 KB, 500 lines, with so many running requests and blocks."""
    registry = CollectorRegistry()
    names = ["model_name", "engine"]
    labels = ("meta-llama/Llama-3.1-8B", "0")
    for name in GAUGES:
        gauge = Gauge(f"vllm:{name}", "A gauge.", names, registry=registry)
        gauge.labels(*labels).set(requests if name == "num_requests_running" else 0)
    sleep = Gauge("vllm:engine_sleep_state", "A.", [*names, "sleep_state"], registry=registry)
    for state in ("awake", "weights_offloaded", "discard_all"):
        sleep.labels(*labels, state).set(state == "awake")
    config = ["engine", "block_size", "num_gpu_blocks", "cache_dtype", "enable_prefix_caching"]
    info = Gauge("vllm:cache_config_info", "A.", config, registry=registry)
    info.labels("0", "16", str(blocks), "auto", "True").set(1)
    for name in COUNTERS:
        Counter(f"vllm:{name}", "A counter.", names, registry=registry).labels(*labels).inc()
    edges = [0.001 * 2**step for step in range(22)]
    for number in range(16):
        histogram = Histogram(
            f"vllm:histogram_{number}_seconds", "A.", names, registry=registry, buckets=edges
        )
        histogram.labels(*labels).observe(1.0)
    return generate_latest(registry)


class Answer(asyncio.Protocol):
    """The cheapest server that keeps a connection: one page for each read."""

    def __init__(self, page: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(page)}\r\n\r\n"
        self.answer = head.encode() + page

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.answer)


def far_side(pipe: Connection, requests: int) -> None:
    """Serves a page on as many ports as there are endpoints, until its parent goes."""
    uvloop.run(_serve(pipe, vllm_page(requests)))


async def _serve(pipe: Connection, page: bytes) -> None:
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(lambda: Answer(page), "127.0.0.1", 0) for _ in range(ENDPOINTS)
    ]
    pipe.send([server.sockets[0].getsockname()[1] for server in servers])
    done = asyncio.Event()
    loop.add_reader(pipe.fileno(), done.set)
    await done.wait()


def scraping(requests: int, seconds: float, settings: ScrapeSettings) -> tuple[float, float, float]:
    """`(share of a core, scrapes a second, microseconds a scrape)` of 100 such endpoints."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=far_side, args=(theirs, requests), daemon=True)
    child.start()
    try:
        return uvloop.run(_scrape(ours.recv(), seconds, settings))
    finally:
        ours.send("end")
        child.join()


async def _scrape(
    ports: list[int], seconds: float, settings: ScrapeSettings
) -> tuple[float, float, float]:
    store = Datastore(time.monotonic, time.time, StoreSettings())
    endpoints = [Endpoint(name=f"p{port}", host="127.0.0.1", port=port) for port in ports]
    store.set_endpoints("bench", endpoints)
    async with HttpFetch(FetchSettings()) as fetch:
        scraper = Scraper(store, fetch, settings, time.monotonic, random.Random(1))
        task = asyncio.create_task(scraper.run())
        await asyncio.sleep(10.0)  # Idle intervals have grown to their end by now.
        cpu, scrapes, began = time.process_time(), scraper.stats.scrapes, time.monotonic()
        await asyncio.sleep(seconds)
        lasted = time.monotonic() - began
        cpu, scrapes = time.process_time() - cpu, scraper.stats.scrapes - scrapes
        assert store.view().fresh.all()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert not scraper.stats.errors
    return cpu / lasted, scrapes / lasted, cpu / scrapes * 1e6


def microseconds(work: Callable[[], object], times: int = 2000) -> float:
    """The best of five rounds, in CPU time of this process."""
    rounds = []
    for _ in range(5):
        began = time.process_time()
        for _ in range(times):
            work()
        rounds.append(time.process_time() - began)
    return min(rounds) / times * 1e6


def store_of(count: int) -> Datastore:
    """A store of so many fresh endpoints."""
    store = Datastore(time.monotonic, time.time, StoreSettings())
    store.set_endpoints(
        "bench",
        [Endpoint(name=f"p{n}", host=f"10.0.{n // 250}.{n % 250}", port=80) for n in range(count)],
    )
    for endpoint in store.endpoints:
        store.scraped(endpoint.key, time.monotonic(), Sample(running=2), 3600)
    return store


def in_memory() -> dict[str, float]:
    """Microseconds of what happens without a socket."""
    page = vllm_page(3)
    text = page.decode()
    numbers = {
        f"sample from a page of {len(page) // 1000} KB": microseconds(lambda: VLLM.sample(page)),
        "the same page by prometheus-client": microseconds(
            lambda: list(text_string_to_metric_families(text)), 5
        ),
    }
    for count in (10, 1000):
        store = store_of(count)
        endpoint = store.endpoints[count // 2]

        def request(store: Datastore = store, endpoint: Endpoint = endpoint) -> None:
            reservation = store.reserve(endpoint, tokens=100, request_id="x")
            reservation.first_token()
            reservation.release(Ending.COMPLETE, 200)

        def scrape(store: Datastore = store, endpoint: Endpoint = endpoint) -> None:
            store.view()
            store.scraped(endpoint.key, time.monotonic(), Sample(running=2), 3600)

        numbers[f"view of {count}"] = microseconds(store.view)
        numbers[f"reserve, first token, release among {count}"] = microseconds(request)
        numbers[f"a scrape believed and a view, {count}"] = microseconds(scrape)
    return numbers


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    print(f"CPython {platform.python_version()}, {platform.python_compiler()}")
    numbers = in_memory()
    for name, value in numbers.items():
        print(f"{name:48} {value:10.1f} us")
    for kind, requests in (("idle", 0), ("busy", 3)):
        core, rate, each = scraping(requests, seconds, ScrapeSettings())
        print(f"{ENDPOINTS} {kind}: {core:.3f} core, {rate:.0f} scrapes/s, {each:.0f} us each")
        numbers[f"{kind} core"], numbers[f"{kind} us each"] = core, each
    if path := os.environ.get("BENCH_JSON"):
        Path(path).write_text(json.dumps({"scrape": numbers}))


if __name__ == "__main__":
    main()
