"""What happens without a socket: the whole way of a request among many endpoints, and its parts."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import structlog  # noqa: E402
from bench_scrape import microseconds  # noqa: E402
from load import small  # noqa: E402

from epp.admission.overload import LagShedder  # noqa: E402
from epp.app.live import LiveConfig  # noqa: E402
from epp.app.picker import NoObjectives, NoRewrites  # noqa: E402
from epp.config.options import RunOptions  # noqa: E402
from epp.datastore import Datastore, Sample, StoreSettings  # noqa: E402
from epp.datastore.prefix import PrefixIndex  # noqa: E402
from epp.domain.endpoint import Endpoint  # noqa: E402
from epp.domain.path import Intake  # noqa: E402
from epp.domain.request import Head, Prompt  # noqa: E402
from epp.domain.response import Ending, ResponseHead, ResponseMode  # noqa: E402
from epp.flow import Flow, Rules  # noqa: E402
from epp.observe.decisions import DecisionLog  # noqa: E402
from epp.observe.logs import RefusalLog  # noqa: E402
from epp.observe.picker_metrics import PickerMetrics  # noqa: E402
from epp.observe.reports import RequestReports  # noqa: E402
from epp.observe.request_metrics import RequestMetrics  # noqa: E402
from epp.ticket import Desk  # noqa: E402
from epp.tokens.blocks import block_keys, chain_seed  # noqa: E402

LOG = structlog.wrap_logger(
    structlog.PrintLogger(), wrapper_class=structlog.make_filtering_bound_logger(50)
)
CLOCK = time.monotonic
HEADERS = {
    ":method": "POST",
    ":path": "/v1/chat/completions",
    ":authority": "bench",
    ":scheme": "http",
    "content-type": "application/json",
    "x-request-id": "7f3c9c1e-8a51-4d0e-9f0e-0d6f6d3b8a10",
    "accept": "*/*",
}
ANSWERED = ResponseHead(200, {":status": "200", "content-type": "application/json"}, None)


@dataclass(frozen=True)
class Kind:
    """What a picker is configured for, what it knows beforehand, and what it is asked."""

    config: str
    path: str
    bodies: Callable[[], list[bytes]]
    prepare: Callable[[LiveConfig, Datastore], None]


def flow_among(
    count: int, scheduled: Callable[[float], None] | None = None, kind: Kind | None = None
) -> Flow:
    """The request path of a picker with so many fresh endpoints, under the default policy unless
    `kind` says otherwise.

    `scheduled` hears the seconds each placing took.
    """
    kind = kind or CHAT
    store = Datastore(CLOCK, time.time, StoreSettings(), LOG)
    store.set_endpoints(
        "bench",
        [Endpoint(name=f"p{n}", host=f"10.0.{n // 250}.{n % 250}", port=80) for n in range(count)],
    )
    sample = Sample(running=2, kv_usage=0.1, kv_blocks=20_000, block_size=16)
    for endpoint in store.endpoints:
        store.scraped(endpoint.key, CLOCK(), sample, 3600)
    metrics = PickerMetrics()
    options = RunOptions(config_text=kind.config)
    live = LiveConfig(options, store, metrics, LOG, clock=CLOCK, secret=bytes(32))
    kind.prepare(live, store)
    reports = RequestReports(
        RequestMetrics(),
        RefusalLog(LOG, clock=CLOCK),
        DecisionLog(),
        clock=CLOCK,
        scheduled=scheduled,
    )
    desk = Desk(store, reports, CLOCK)
    shed = LagShedder(lambda: 0.0, 0.5)
    return Flow(live.now.setup, Rules(NoObjectives(), NoRewrites()), desk, shed)


def bodies() -> list[bytes]:
    return [small(n).partition(b"\r\n\r\n")[2] for n in range(500)]


def know_nothing(_live: LiveConfig, _store: Datastore) -> None:
    """Endpoints and their gauges are all there is."""


CHAT = Kind("", "/v1/chat/completions", bodies, know_nothing)


def whole_way(
    count: int, scheduled: Callable[[float], None] | None = None, kind: Kind | None = None
) -> Callable[[], None]:
    """One request from its intake to its end, in watch mode."""
    kind = kind or CHAT
    flow, texts = flow_among(count, scheduled, kind), kind.bodies()
    head = Head({**HEADERS, ":path": kind.path}, 300)
    at = 0

    def once() -> None:
        nonlocal at
        at = (at + 1) % len(texts)
        ticket: Any = flow.decide(Intake(head, texts[at], None, ResponseMode.WATCH))
        ticket.response_started(ANSWERED)
        ticket.ended(Ending.COMPLETE)

    return once


def picks(rounds: int = 300) -> dict[int, tuple[float, float]]:
    """Microseconds by number of endpoints: of the pick, and of the request's whole way.

    The pick is matching, scoring, choosing and reserving.
    """
    return {count: pick_among(count, rounds) for count in (10, 100, 1000)}


def pick_among(count: int, rounds: int) -> tuple[float, float]:
    """The best round of each."""
    once = timed(count)
    found = [once() for _ in range(rounds)]
    return min(pick for pick, _ in found), min(way for _, way in found)


def timed(count: int, kind: Kind | None = None, size: int = 8) -> Callable[[], tuple[float, float]]:
    """Times a round of so many requests: microseconds of a pick, and of a request's whole way."""
    seconds: list[float] = []
    once = whole_way(count, seconds.append, kind)

    def a_round() -> tuple[float, float]:
        seconds.clear()
        began = time.perf_counter()
        for _ in range(size):
            once()
        way = time.perf_counter() - began
        return sum(seconds) / size * 1e6, way / size * 1e6

    return a_round


def long_prompt() -> float:
    """Microseconds to hash a prompt of 100,000 tokens and to match it, 40 % of it held."""
    prompt = Prompt(text=b"lorem ipsum " * (400_000 // 12))
    index = PrefixIndex()
    keys = block_keys(prompt, 64, chain_seed("bench"))
    for slot in range(100):
        index.insert(slot, keys[: len(keys) * 4 // 10], 40_000)

    def work() -> None:
        index.match(block_keys(prompt, 64, chain_seed("bench")))

    return microseconds(work, 50)


def long_prompt_fine() -> float:
    """The same in blocks of 16 tokens, the finest an engine has."""
    prompt = Prompt(text=b"lorem ipsum " * (400_000 // 12))
    index = PrefixIndex()
    index.insert(1, block_keys(prompt, 16, chain_seed("bench"))[:2500], 40_000)
    return microseconds(lambda: index.match(block_keys(prompt, 16, chain_seed("bench"))), 50)


if __name__ == "__main__":
    print(picks(), long_prompt(), long_prompt_fine())
