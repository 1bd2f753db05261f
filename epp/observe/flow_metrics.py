"""What flow control did: who waited how long, what became of them, how full the queues are.

Names and labels are those of the Go picker; clients' ids are capped. Gauges are read from the queue
when somebody looks.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol

from prometheus_client.core import Metric

from epp.domain.request import Request
from epp.domain.waiting import Waiting
from epp.domain.workload import Workload
from epp.observe import bounds
from epp.observe.labels import OTHER, LabelCap
from epp.observe.series import Family, Histogram, Kind, Spec, Tally, histograms, tallies

BY_FLOW: Final = ("fairness_id", "priority")
BY_REQUEST: Final = (*BY_FLOW, "inference_pool", "model_name", "target_model_name")
BY_BAND: Final = ("priority", "inference_pool")
BY_WORKLOAD: Final = ("workload_id", "criticality")
MOST_SERIES: Final = 2000


def flow(kind: Kind, stem: str, meaning: str, labels: tuple[str, ...], limits: object = ()) -> Spec:
    """A family of flow control."""
    assert isinstance(limits, tuple)
    return Spec(f"llm_d_epp_flow_control_{stem}", kind, meaning, labels, limits)


WAITED: Final = flow(
    "histogram",
    "request_queue_duration_seconds",
    "From the arrival at flow control until a request was placed or refused.",
    (*BY_FLOW, "outcome", "inference_pool", "model_name", "target_model_name"),
    bounds.PHASE,
)
CYCLE: Final = flow(
    "histogram",
    "dispatch_cycle_duration_seconds",
    "What choosing who goes next took.",
    (),
    bounds.PHASE,
)
ENQUEUE: Final = flow(
    "histogram",
    "request_enqueue_duration_seconds",
    "What taking a request into the queue took, where it had to queue.",
    (*BY_FLOW, "outcome"),
    bounds.PHASE,
)
REQUESTS: Final = flow(
    "counter",
    "requests_total",
    "Requests by what became of them in flow control.",
    ("outcome", *BY_BAND),
)
EVICTIONS: Final = flow(
    "counter",
    "revocations_issued_total",
    "Placed requests that were taken back for work of higher priority.",
    BY_BAND,
)
SIZE: Final = flow("gauge", "queue_size", "Requests that wait.", BY_REQUEST)
BYTES: Final = flow("gauge", "queue_bytes", "Bytes of the bodies of those that wait.", BY_REQUEST)
SATURATION: Final = flow(
    "gauge",
    "pool_saturation",
    "How full the pool is: 0 idle, 1 full.",
    ("inference_pool", "stage"),
)
STALE: Final = flow(
    "gauge",
    "stale_endpoints",
    "Endpoints a detector leaves out, their gauges being missing or too old.",
    ("detector",),
)
BAND_REQUESTS: Final = flow(
    "gauge", "capacity_utilization_requests", "Waiting requests over the band's limit.", BY_BAND
)
BAND_BYTES: Final = flow(
    "gauge", "capacity_utilization_bytes", "Waiting bytes over the band's limit.", BY_BAND
)
ALL_REQUESTS: Final = flow(
    "gauge",
    "global_capacity_utilization_requests",
    "Waiting requests over the limit of all bands; 0 without a limit.",
    ("inference_pool",),
)
ALL_BYTES: Final = flow(
    "gauge",
    "global_capacity_utilization_bytes",
    "Waiting bytes over the limit of all bands; 0 without a limit.",
    ("inference_pool",),
)
WORKLOAD_REQUESTS: Final = Spec(
    "llm_d_epp_workload_requests_total",
    "counter",
    "Requests that named a workload, by what became of them in flow control.",
    (*BY_WORKLOAD, "outcome"),
)
WORKLOAD_WAITED: Final = Spec(
    "llm_d_epp_workload_queue_duration_seconds",
    "histogram",
    "From the arrival at flow control of a request that named a workload until it was placed or "
    "refused.",
    BY_WORKLOAD,
    bounds.PHASE,
)
WORKLOAD_ACTIVE: Final = Spec(
    "llm_d_epp_workload_active_requests",
    "gauge",
    "Requests that named a workload and wait or run, with or without flow control.",
    BY_WORKLOAD,
)


@dataclass(slots=True, frozen=True)
class BandState:
    """One band: limits and what is in it."""

    priority: int
    requests: int
    bytes: int
    max_requests: float
    max_bytes: float


@dataclass(slots=True, frozen=True)
class QueueState:
    """The queue at one moment."""

    saturation: float = 0.0
    detector: str = ""
    stale: int = 0
    waiting: Iterable[Waiting] = ()
    bands: tuple[BandState, ...] = ()
    max_requests: float = math.inf
    max_bytes: float = math.inf


class Queue(Protocol):
    """Knows who waits."""

    def __call__(self) -> QueueState | None: ...


def nobody() -> None:
    """Without flow control there is no queue."""


class Active(Protocol):
    """Knows the workloads of all requests that wait or run."""

    def __call__(self) -> Iterable[Workload]: ...


def idle() -> Iterable[Workload]:
    """Nothing goes on."""
    return ()


@dataclass(slots=True)
class FlowMetrics:
    """Implements `epp.admission.FlowReports`. `queue` and `active` are asked at each scrape."""

    pool: str = ""
    queue: Queue = nobody
    active: Active = idle
    tenants: LabelCap = field(default_factory=LabelCap)
    models: LabelCap = field(default_factory=LabelCap)
    workloads: LabelCap = field(default_factory=lambda: LabelCap(200))
    waited: Family[Histogram] = field(default_factory=lambda: histograms(WAITED))
    enqueues: Family[Histogram] = field(default_factory=lambda: histograms(ENQUEUE))
    cycles: Family[Histogram] = field(default_factory=lambda: histograms(CYCLE))
    requests: Family[Tally] = field(default_factory=lambda: tallies(REQUESTS))
    evictions: Family[Tally] = field(default_factory=lambda: tallies(EVICTIONS))
    workload_requests: Family[Tally] = field(default_factory=lambda: tallies(WORKLOAD_REQUESTS))
    workload_waited: Family[Histogram] = field(default_factory=lambda: histograms(WORKLOAD_WAITED))
    _bound: dict[tuple[object, ...], tuple[Histogram, Tally]] = field(default_factory=dict)

    def left(self, waiting: Waiting, outcome: Enum, seconds: float) -> None:
        """A request went, or was refused, after so long in the queue."""
        request = waiting.request
        raw = (outcome, waiting.flow, request.priority, request.model, request.target_model)
        cells = self._bound.get(raw)
        if cells is None:
            if len(self._bound) >= MOST_SERIES:
                self._bound.clear()
            cells = self._bound[raw] = self._bind(waiting, str(outcome.value))
        waited, requests = cells
        waited.observe(seconds)
        requests.value += 1
        if waiting.workload.id:
            self._workload(waiting, str(outcome.value), seconds)

    def _bind(self, waiting: Waiting, became: str) -> tuple[Histogram, Tally]:
        priority = str(waiting.priority)
        values: tuple[str, ...]
        values = (self.tenants(waiting.flow), priority, became, self.pool, *self._models(waiting))
        if values not in self.waited.cells and len(self.waited.cells) >= MOST_SERIES:
            values = (OTHER, priority, became, self.pool, OTHER, OTHER)
        return self.waited.bind(*values), self.requests.bind(became, priority, self.pool)

    def enqueued(self, waiting: Waiting, outcome: str, seconds: float) -> None:
        """Taking a request into the queue took so long."""
        values = (self.tenants(waiting.flow), str(waiting.priority), outcome)
        if values not in self.enqueues.cells and len(self.enqueues.cells) >= MOST_SERIES:
            values = (OTHER, str(waiting.priority), outcome)
        self.enqueues.bind(*values).observe(seconds)

    def cycle(self, seconds: float) -> None:
        """One look at the queue took so long."""
        self.cycles.bind().observe(seconds)

    def evicted(self, request: Request) -> None:
        """A request that had been placed was taken back."""
        self.evictions.bind(str(request.priority), self.pool).value += 1

    def families(self) -> tuple[Family[Tally] | Family[Histogram], ...]:
        counted = (self.waited, self.enqueues, self.cycles, self.requests, self.evictions)
        return (*counted, self.workload_requests, self.workload_waited)

    def asked(self) -> tuple[Family[Tally], ...]:
        """The gauges, empty where there is no queue."""
        size, held, saturation = tallies(SIZE), tallies(BYTES), tallies(SATURATION)
        stale, active = tallies(STALE), tallies(WORKLOAD_ACTIVE)
        by_band = tallies(BAND_REQUESTS), tallies(BAND_BYTES)
        of_all = tallies(ALL_REQUESTS), tallies(ALL_BYTES)
        if state := self.queue():
            self._fill(state, size, held)
            saturation.bind(self.pool, "effective").set(state.saturation)
            stale.bind(state.detector).set(state.stale)
            self._fill_bands(state, *by_band, *of_all)
        for each in self.active():
            if each.id:
                active.bind(self.workloads(each.id), str(each.criticality)).value += 1
        return (size, held, saturation, stale, *by_band, *of_all, active)

    def collect(self, *, old_names: bool) -> Iterator[Metric]:
        for family in (*self.families(), *self.asked()):
            yield from family.collect(old_names=old_names)

    def _fill(self, state: QueueState, size: Family[Tally], held: Family[Tally]) -> None:
        counts, sizes = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
        for waiting in state.waiting:
            tenant, priority = self.tenants(waiting.flow), str(waiting.priority)
            values: tuple[str, ...] = (tenant, priority, self.pool, *self._models(waiting))
            counts[values] += 1
            sizes[values] += waiting.size
        for labels, count in counts.items():
            size.bind(*labels).set(count)
            held.bind(*labels).set(sizes[labels])

    def _fill_bands(self, state: QueueState, *families: Family[Tally]) -> None:
        requests, held, all_requests, all_bytes = families
        for band in state.bands:
            labels = str(band.priority), self.pool
            requests.bind(*labels).set(band.requests / band.max_requests)
            held.bind(*labels).set(band.bytes / band.max_bytes)
        count = sum(band.requests for band in state.bands)
        all_requests.bind(self.pool).set(count / state.max_requests)
        all_bytes.bind(self.pool).set(sum(b.bytes for b in state.bands) / state.max_bytes)

    def _models(self, waiting: Waiting) -> tuple[str, str]:
        request = waiting.request
        return self.models(request.model), self.models(request.target_model)

    def _workload(self, waiting: Waiting, became: str, seconds: float) -> None:
        labels = self.workloads(waiting.workload.id), str(waiting.workload.criticality)
        self.workload_requests.bind(*labels, became).value += 1
        self.workload_waited.bind(*labels).observe(seconds)
