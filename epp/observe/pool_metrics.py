"""The pool as gauges, worked out from its state when somebody scrapes and never in between."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec
import numpy as np
from prometheus_client.core import Metric

from epp.domain.endpoint import Endpoint
from epp.observe.series import Family, Spec, Tally, old, tallies

NAN: Final = float("nan")


class EndpointState(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint as its gauges were last scraped; None where they never were.

    `fresh` False keeps an endpoint out of the averages. In-flight numbers are the picker's own.
    """

    endpoint: Endpoint
    waiting: float | None = None
    running: float | None = None
    kv_usage: float | None = None
    fresh: bool = False
    ejected: bool = False
    inflight_requests: int = 0
    inflight_tokens: int = 0


class PoolState(msgspec.Struct, frozen=True):
    """A pool by name and all its endpoints, those not ready included."""

    name: str
    endpoints: tuple[EndpointState, ...] = ()


def averaged(stem: str, meaning: str) -> Spec:
    """An average over the pool's fresh endpoints."""
    return Spec(
        f"llm_d_epp_average_{stem}",
        "gauge",
        f"{meaning}, averaged over endpoints with fresh gauges; NaN if there is none.",
        ("name",),
        old=old(f"inference_pool_average_{stem}", "name"),
    )


def spread(stem: str, meaning: str) -> Spec:
    """A standard deviation over the pool's fresh endpoints."""
    return Spec(
        f"llm_d_epp_std_dev_{stem}",
        "gauge",
        f"{meaning}, standard deviation over endpoints with fresh gauges; NaN if there is none.",
        ("name",),
    )


def own(stem: str, meaning: str, labels: tuple[str, ...] = ("name",)) -> Spec:
    """A gauge without an older name."""
    return Spec(f"llm_d_epp_{stem}", "gauge", meaning, labels)


AVERAGES: Final = {
    "kv_usage": averaged("kv_cache_utilization", "Share of KV memory in use, 0 to 1"),
    "waiting": averaged("queue_size", "Requests in the engine's queue"),
    "running": averaged("running_requests", "Requests in the engine's batch"),
}
SPREADS: Final = {
    "kv_usage": spread("kv_cache_utilization", "Share of KV memory in use, 0 to 1"),
    "waiting": spread("queue_size", "Requests in the engine's queue"),
    "running": spread("running_requests", "Requests in the engine's batch"),
}
READY: Final = Spec(
    "llm_d_epp_ready_endpoints",
    "gauge",
    "Endpoints that new requests may go to.",
    ("name",),
    old=old("inference_pool_ready_pods", "name"),
)
STALE: Final = own("stale_endpoints", "Ready endpoints whose gauges are missing or too old.")
EJECTED: Final = own("ejected_endpoints", "Endpoints kept out because they fail.")
QUEUE: Final = Spec(
    "llm_d_epp_per_endpoint_queue_size",
    "gauge",
    "Requests in an endpoint's queue as last scraped; NaN before the first scrape.",
    ("name", "model_server_endpoint"),
    old=old("inference_pool_per_pod_queue_size", "name", model_server_pod="model_server_endpoint"),
)
INFLIGHT_LABELS: Final = ("endpoint_name", "namespace")
INFLIGHT: Final = own(
    "inflight_requests", "Our requests at an endpoint that have not ended.", INFLIGHT_LABELS
)
INFLIGHT_TOKENS: Final = own(
    "inflight_tokens",
    "Uncached prompt tokens sent to an endpoint whose first token is not seen yet.",
    INFLIGHT_LABELS,
)


class PoolMetrics:
    """Asks `pool_state` for the pool at each scrape."""

    def __init__(self, pool_state: Callable[[], PoolState]) -> None:
        self._pool_state = pool_state

    def collect(self, *, old_names: bool) -> Iterator[Metric]:
        for family in families_of(self._pool_state()):
            yield from family.collect(old_names=old_names)


def families_of(pool: PoolState) -> Iterator[Family[Tally]]:
    """Every gauge of `pool`."""
    fresh = [state for state in pool.endpoints if state.fresh]
    for column in AVERAGES:
        values = known(getattr(state, column) for state in fresh)
        yield single(AVERAGES[column], pool, float(np.mean(values)) if values else NAN)
        yield single(SPREADS[column], pool, float(np.std(values)) if values else NAN)
    ready = [state for state in pool.endpoints if state.endpoint.ready]
    yield single(READY, pool, len(ready))
    yield single(STALE, pool, sum(not state.fresh for state in ready))
    yield single(EJECTED, pool, sum(state.ejected for state in pool.endpoints))
    yield from by_endpoint(pool)


def by_endpoint(pool: PoolState) -> Iterator[Family[Tally]]:
    """The gauges of each endpoint."""
    queue, requests, tokens = tallies(QUEUE), tallies(INFLIGHT), tallies(INFLIGHT_TOKENS)
    for state in pool.endpoints:
        endpoint = state.endpoint
        waiting = NAN if state.waiting is None else state.waiting
        queue.bind(pool.name, ranked_name(endpoint)).set(waiting)
        requests.bind(endpoint.name, endpoint.namespace).set(state.inflight_requests)
        tokens.bind(endpoint.name, endpoint.namespace).set(state.inflight_tokens)
    yield from (queue, requests, tokens)


def single(spec: Spec, pool: PoolState, value: float) -> Family[Tally]:
    """A gauge of the whole pool."""
    family = tallies(spec)
    family.bind(pool.name).set(value)
    return family


def known(values: Iterable[float | None]) -> list[float]:
    """Those that are numbers."""
    return [value for value in values if value is not None and value == value]


def ranked_name(endpoint: Endpoint) -> str:
    """`POD-rank-R`, as the label of the queue gauge names an endpoint."""
    suffix = f"-rank-{endpoint.rank}"
    if endpoint.name.endswith(suffix):
        return endpoint.name
    return f"{endpoint.pod or endpoint.name}{suffix}"
