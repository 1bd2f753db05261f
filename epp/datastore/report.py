"""What is known, for people and for gauges."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from epp.datastore.entry import Entry
from epp.domain.pool import Floats, PoolView


@dataclass(slots=True, frozen=True)
class Totals:
    """The pool in numbers. Means and deviations are over fresh endpoints, 0 without any."""

    endpoints: int
    ready: int
    pickable: int
    """Ready, awake and trusted: what a decision chooses from."""
    fresh: int
    ejected: int
    inflight_requests: int
    inflight_tokens: int
    waiting_mean: float
    waiting_deviation: float
    running_mean: float
    running_deviation: float
    kv_usage_mean: float
    kv_usage_deviation: float


def totals(entries: Sequence[Entry], view: PoolView, ejected: int, now: float) -> Totals:
    """Everything in flight is counted, that of endpoints which are not in the view too."""
    fresh = view.fresh
    return Totals(
        endpoints=len(entries),
        ready=sum(entry.endpoint.ready for entry in entries),
        pickable=len(view),
        fresh=int(fresh.sum()),
        ejected=ejected,
        inflight_requests=sum(entry.account.requests for entry in entries),
        inflight_tokens=math.ceil(sum(entry.account.inflight_tokens(now) for entry in entries)),
        waiting_mean=_mean(view.waiting[fresh]),
        waiting_deviation=_deviation(view.waiting[fresh]),
        running_mean=_mean(view.running[fresh]),
        running_deviation=_deviation(view.running[fresh]),
        kv_usage_mean=_mean(view.kv_usage[fresh]),
        kv_usage_deviation=_deviation(view.kv_usage[fresh]),
    )


def _mean(column: Floats) -> float:
    return float(column.mean()) if column.size else 0.0


def _deviation(column: Floats) -> float:
    return float(column.std()) if column.size else 0.0


def describe(entry: Entry, now: float, *, pickable: bool) -> dict[str, Any]:
    """One endpoint for the debug page. Times in seconds, None for what is not known."""
    account, breaker, sample = entry.account, entry.breaker, entry.sample
    waiting, running = entry.load()
    return {
        "name": entry.endpoint.name,
        "namespace": entry.endpoint.namespace,
        "address": entry.endpoint.address,
        "labels": dict(entry.endpoint.labels),
        "slot": entry.slot,
        "ready": entry.endpoint.ready,
        "pickable": pickable,
        "age": _finite(now - entry.started),
        "fresh": now <= entry.stale_at,
        "scrape_error": entry.scrape_error or None,
        "sleeping": sample.sleeping,
        "raw": {
            "waiting": sample.waiting,
            "running": sample.running,
            "kv_usage": sample.kv_usage,
            "custom": {name: _finite(value) for name, value in sample.custom.items()},
        },
        "corrected": {"waiting": waiting, "running": running},
        "inflight": {
            "requests": account.requests,
            "tokens": math.ceil(account.inflight_tokens(now)),
            "decoding": account.decoding,
            "unseen": account.unseen,
        },
        "prefill_rate": account.rate.value,
        "slowness": entry.pace.slowness,
        "max_running": _finite(sample.max_running),
        "kv_blocks": sample.kv_blocks,
        "block_size": sample.block_size,
        "lora": {
            "running": sorted(sample.lora.running),
            "waiting": sorted(sample.lora.waiting),
            "max_adapters": sample.lora.max_adapters,
        },
        "health": {
            "state": breaker.health.value,
            "ejected": breaker.ejected,
            "failures": breaker.failures,
            "back_in": max(0.0, breaker.until - now) if breaker.ejected else None,
        },
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
