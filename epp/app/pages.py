"""What the debug pages and the gauges show, read from the rooms when somebody looks."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from epp.admin import pages
from epp.admin.debug import DebugSources
from epp.admission import BandSettings
from epp.admission.band import Band
from epp.app.live import LiveConfig
from epp.config.effective import effective
from epp.datastore import Datastore
from epp.domain.clock import Clock
from epp.domain.headers import REQUEST_ID, WORKLOAD
from epp.domain.request import Request
from epp.domain.waiting import Waiting
from epp.domain.workload import Workload, workload_of
from epp.flow import Flow
from epp.observe.decisions import DecisionLog
from epp.observe.flow_metrics import BandState, QueueState
from epp.observe.pool_metrics import EndpointState, PoolState
from epp.ticket import Desk, PlacedTicket

MOST_LISTED = 100
LONGEST_ID = 256


class Pages:
    """Sources of the debug pages, and the state behind the pool's gauges."""

    def __init__(
        self,
        pool_name: str,
        *,
        store: Datastore,
        desk: Desk,
        flow: Flow,
        decisions: DecisionLog,
        live: LiveConfig,
        held: Callable[[], int],
        clock: Clock,
    ) -> None:
        self._pool_name = pool_name
        self._store = store
        self._desk = desk
        self._flow = flow
        self._decisions = decisions
        self._live = live
        self._held = held
        self._clock = clock

    def sources(
        self,
        allowed_hosts: tuple[str, ...],
        kv_events: Callable[[], pages.KvEventsPage] = pages.KvEventsPage,
    ) -> DebugSources:
        return DebugSources(
            endpoints=self.endpoints,
            requests=self.requests,
            decisions=lambda wanted: pages.DecisionsPage(self._decisions.find(wanted)),
            last_decisions=lambda count: pages.DecisionsPage(self._decisions.last(count)),
            prefix=self.prefix,
            config=self.config,
            kv_events=kv_events,
            allowed_hosts=frozenset(allowed_hosts),
        )

    def pool_state(self) -> PoolState:
        """Every endpoint as last scraped, for the gauges of the pool."""
        rows = zip(self._store.endpoints, self._described(), strict=True)
        return PoolState(self._pool_name, tuple(state_of(e, row) for e, row in rows))

    def queue_state(self) -> QueueState | None:
        """Who waits, for the gauges of flow control; None where it is off."""
        control = self._live.flow_control
        if control is None:
            return None
        machine, settings = control.machine, control.machine.settings
        present = {band.priority: band for band in machine.bands}
        return QueueState(
            saturation=control.levels().saturation,
            detector=control.detector,
            stale=int(sum(~self._store.view().fresh)),
            waiting=tuple(waiting for band in machine.bands for waiting in band),
            bands=tuple(
                band_state(priority, present.get(priority), settings.band(priority))
                for priority in sorted({0, *settings.bands, *present})
            ),
            max_requests=settings.max_requests,
            max_bytes=settings.max_bytes,
        )

    def active(self) -> Iterator[Workload]:
        """The workloads of all requests that wait or run; nothing where a header is missing."""
        going = (ticket.request for ticket in self._desk.open.values())
        for request in (*self._flow.waiting.values(), *going):
            if WORKLOAD[0] in request.headers:
                yield workload_of(request.headers)

    def endpoints(self) -> pages.EndpointsPage:
        return pages.EndpointsPage(self._pool_name, tuple(map(row_of, self._described())))

    def requests(self) -> pages.RequestsPage:
        now, open_ones, waiting = self._clock(), self._desk.open, self._flow.waiting
        places = self._places(now)
        return pages.RequestsPage(
            open_count=len(open_ones),
            queued_count=len(waiting),
            held_bytes=self._held(),
            open=tuple(open_of(t, now) for t in list(open_ones.values())[:MOST_LISTED]),
            queued=tuple(
                queued_of(r, now, places.get(r.id)) for r in list(waiting.values())[:MOST_LISTED]
            ),
        )

    def _places(self, now: float) -> dict[str, tuple[int, Waiting]]:
        """Places in the queue by our id, 1 for who is next."""
        control = self._live.flow_control
        bands = control.machine.bands if control else ()
        ordered = (waiting for band in bands for waiting in band.in_order(now))
        return {waiting.request.id: (n, waiting) for n, waiting in enumerate(ordered, 1)}

    def prefix(self, name: str) -> pages.PrefixPage | None:
        """What prefix producers believe of the endpoint called `name`."""
        slot = next((row["slot"] for row in self._described() if row["name"] == name), None)
        if slot is None:
            return None
        instances = self._live.now.assembly.instances
        indexes = tuple(
            pages.PrefixIndex(plugin, blocks=plugin_instance.held_blocks(slot))
            for plugin, plugin_instance in instances.items()
            if hasattr(plugin_instance, "held_blocks")
        )
        return pages.PrefixPage(name, indexes)

    def config(self) -> pages.ConfigPage:
        live = self._live
        return pages.ConfigPage(
            source=live.now.source,
            effective=effective(live.now.assembly.plan).value,
            warnings=live.now.assembly.policy.warnings,
            reloads=live.reloads,
        )

    def _described(self) -> list[dict[str, Any]]:
        return self._store.describe()


def row_of(told: Mapping[str, Any]) -> pages.EndpointRow:
    raw, corrected, inflight = told["raw"], told["corrected"], told["inflight"]
    return pages.EndpointRow(
        name=told["name"],
        namespace=told["namespace"],
        address=told["address"],
        ready=told["ready"],
        fresh=told["fresh"],
        ejected=told["health"]["ejected"],
        age=told["age"],
        raw=pages.Gauges(*known(told, raw)),
        corrected=pages.Gauges(corrected["waiting"], corrected["running"], raw["kv_usage"]),
        inflight_requests=inflight["requests"],
        inflight_tokens=inflight["tokens"],
        prefill_rate=told["prefill_rate"],
        slowness=told["slowness"],
        labels=told["labels"],
        columns={name: value for name, value in raw["custom"].items() if value is not None},
    )


def known(told: Mapping[str, Any], raw: Mapping[str, Any]) -> tuple[float | None, ...]:
    """Raw gauges, None for all where there never was a scrape."""
    if told["age"] is None:
        return None, None, None
    return raw["waiting"], raw["running"], raw["kv_usage"]


def state_of(endpoint: Any, told: Mapping[str, Any]) -> EndpointState:
    waiting, running, kv_usage = known(told, told["raw"])
    return EndpointState(
        endpoint=endpoint,
        waiting=waiting,
        running=running,
        kv_usage=kv_usage,
        fresh=told["fresh"],
        ejected=told["health"]["ejected"],
        inflight_requests=told["inflight"]["requests"],
        inflight_tokens=told["inflight"]["tokens"],
    )


def open_of(ticket: PlacedTicket, now: float) -> pages.OpenRequest:
    request = ticket.request
    return pages.OpenRequest(
        id=request.id,
        endpoint=ticket.endpoint.address,
        age=now - request.arrived,
        client_id=request.headers.get(REQUEST_ID, "")[:LONGEST_ID],
        model=request.target_model,
        status=ticket.status,
        first_token=ticket.first_token_seen,
    )


def queued_of(
    request: Request, now: float, place: tuple[int, Waiting] | None
) -> pages.QueuedRequest:
    workload = workload_of(request.headers)
    return pages.QueuedRequest(
        id=request.id,
        age=now - request.arrived,
        model=request.model,
        priority=request.priority,
        fairness_id=request.fairness_id,
        workload_id=workload.id,
        criticality=workload.criticality,
        position=place[0] if place else 0,
        queued_for=place[1].waited(now) if place else None,
    )


def band_state(priority: int, band: Band | None, settings: BandSettings) -> BandState:
    return BandState(
        priority,
        requests=len(band) if band else 0,
        bytes=band.bytes if band else 0,
        max_requests=settings.max_requests,
        max_bytes=settings.max_bytes,
    )
