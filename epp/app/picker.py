"""One picker process: who is built from what, started and stopped in which order.

datastore <- file discovery, scraper
configuration -> policy -> flow -> gRPC ports
admin: metrics and debug pages over all of them
"""

import asyncio
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Final, cast

from prometheus_client.registry import CollectorRegistry
from structlog.typing import FilteringBoundLogger

from epp.admin.server import Admin, AdminPorts, Authorize
from epp.admission.overload import LagShedder
from epp.app.background import Background
from epp.app.build import build_of
from epp.app.cluster import Cluster, conditions_of, in_cluster, pool_name_of
from epp.app.kvevents import KvEvents
from epp.app.latency import latency_metrics
from epp.app.live import LiveConfig, read_config
from epp.app.metrics_tls import metrics_tls
from epp.app.pages import Pages
from epp.app.rendering import Rendering
from epp.app.serving import GrpcPorts, Serving
from epp.app.sources import (
    dialects_of,
    discovery_of,
    fetch_settings_of,
    further_pages_of,
    reads_metrics,
    scrape_settings_of,
)
from epp.assemble import Assembly
from epp.config.options import RunOptions
from epp.config.watch import FileWatch
from epp.datastore import Datastore, StoreSettings
from epp.datastore.prefix import PrefixIndex
from epp.domain.clock import Clock
from epp.domain.workload import Workload
from epp.errors import ConfigError
from epp.flow import Flow, Rules
from epp.observe.cluster_metrics import ClusterMetrics
from epp.observe.decisions import DecisionLog
from epp.observe.flow_metrics import FlowMetrics, QueueState
from epp.observe.kv_metrics import KvMetrics
from epp.observe.lag import LagSampler
from epp.observe.logs import RefusalLog
from epp.observe.metrics import Metrics, Subject, add_process_metrics
from epp.observe.picker_metrics import NoScrapes, PickerMetrics, ScrapeState, WireState
from epp.observe.pool_metrics import PoolMetrics
from epp.observe.reports import RequestReports
from epp.observe.request_metrics import RequestMetrics
from epp.observe.tracing import RequestTracer, sdk_tracer
from epp.scheduling.tolerate import Tolerant
from epp.scrape import FurtherPages, HttpFetch, Scraper
from epp.ticket import Desk, Shown
from epp.wire.budget import ByteBudget
from epp.wire.readiness import Readiness

SHORTEST_KEY: Final = 16


class Picker:
    """All rooms of one picker. `start`, `drain`, `close`: each once; `close` whatever came before.

    `failed` hears the name of a task that died and that the process may not go on without.
    """

    def __init__(
        self, options: RunOptions, log: FilteringBoundLogger, *, failed: Callable[[str], None]
    ) -> None:
        clock = time.monotonic
        self._options = options
        self._log = log
        self.readiness = Readiness(*conditions_of(options))
        self._budget = ByteBudget(options.max_held_bytes)
        self._store = Datastore(clock, time.time, StoreSettings(), log)

        self._cluster: Cluster | None = None
        if in_cluster(options):
            self._cluster = Cluster(
                options,
                self._store,
                self.readiness,
                log,
                clock=clock,
                let_go=lambda: self._serving.let_go(),
            )

        self._scrape_state: ScrapeState = NoScrapes()
        build = build_of(os.environ)
        self._picker_metrics = PickerMetrics(
            commit=build.commit,
            build_ref=build.ref,
            wire_state=self._wire_state,
            scrape_state=lambda: self._scrape_state,
            prefix_sizes=lambda: prefix_sizes(self._live.now.assembly),
            records=lambda: len(self._decisions),
        )
        self._tasks = Background(log, failed, self._picker_metrics.task_died)
        self._request_metrics = RequestMetrics(endpoints=lambda: self._store.endpoints)
        tracer = self._tolerated(tracer_of(options, log, clock))
        self._flow_metrics = FlowMetrics(
            options.pool_name or "file", queue=self._queue_state, active=self._active
        )
        self._refusals = RefusalLog(log, clock=clock, later=asyncio.get_running_loop().call_later)
        self._decisions = DecisionLog()
        self._lag = LagSampler(self._picker_metrics.lagged, clock=clock)

        self._live = LiveConfig(
            options,
            self._store,
            self._picker_metrics,
            log,
            clock=clock,
            secret=secret_of(options),
            flow_reports=self._flow_metrics,
            pick_observers=(tracer,) if tracer else (),
        )
        reports = RequestReports(
            self._request_metrics,
            self._refusals,
            self._decisions,
            clock=clock,
            tracer=tracer,
            scheduled=self._picker_metrics.phase("schedule").observe,
        )
        shown = Shown(endpoint=options.response_headers, scores=options.emit_endpoint_scores)
        desk = Desk(self._store, reports, clock, shown)
        shed = LagShedder(lambda: self._lag.sustained, options.max_loop_lag)
        self._flow = Flow(self._live.now.setup, self._rules(), desk, shed)
        self._serving = Serving(
            options,
            self._flow,
            self.readiness,
            self._budget,
            log,
            told=reports.turned_away,
            replied=self._picker_metrics.phase("reply").observe,
        )
        self._live.eviction.connect(desk.open.values, self._serving.process.revoke)
        self._pages = Pages(
            pool_name_of(options),
            store=self._store,
            desk=desk,
            flow=self._flow,
            decisions=self._decisions,
            live=self._live,
            held=lambda: self._budget.held,
            clock=clock,
        )
        self._kv_events = KvEvents(self._live, self._store, clock, log)
        self._admin = self._build_admin()
        self._grpc_ports = GrpcPorts(0, 0)
        self._admin_ports = AdminPorts(0, None)

    # -- start, stop ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring everything up. Raises ConfigError or OSError; `close` then puts away the rest."""
        if self._options.ignored:
            self._log.info("flags without a meaning here", flags=self._options.ignored)
        assembly = self._live.now.assembly
        fetch = HttpFetch(fetch_settings_of(assembly))
        pages = further_pages_of(self._options, assembly)
        settings = scrape_settings_of(self._options, assembly)
        further = FurtherPages(self._store, pages, settings.deadline, random.Random(), self._log)
        self._scraper = Scraper(
            self._store,
            fetch,
            settings,
            time.monotonic,
            random.Random(),
            dialects_of(assembly),
            self._log,
            further.of if pages else None,
        )
        self._scrape_state = self._scraper.stats
        self._lag.start()
        self._admin_ports = await self._admin.start()
        if self._cluster is not None:
            # Probes watch the sync, and no Service names a picker that is not ready.
            self._grpc_ports = await self._serving.start()
            await self._cluster.start(self._tasks.own)
        else:
            # Nobody asks for readiness here: whoever can connect is answered from a known pool.
            await self._discover(assembly)
            self._grpc_ports = await self._serving.start()
        if reads_metrics(assembly):
            self._tasks.own(lambda: self._scrape(fetch), "scraper")
        if pages:
            self._tasks.own(further.run, "further pages")
        self._tasks.own(self._kv_events.run, "kv events")
        self._tasks.own(Rendering(self._live, self._store, self._log).run, "rendering")
        if self._options.config_file:
            self._tasks.own(self._config_watch().run, "config")

    async def drain(self) -> None:
        """Not ready at once; streams finish while all else goes on. May be cancelled."""
        self.readiness.drain()
        self._log.info("draining", seconds=self._options.drain_timeout)
        if self._cluster is not None:
            await self._cluster.retire()
        await self._serving.drain(self._options.drain_timeout)

    async def close(self) -> None:
        """Open streams are cut, then the tasks end, the pages last."""
        await self._serving.close()
        await self._tasks.cancel()
        self._lag.stop()
        self._refusals.close()
        if self._cluster is not None:
            await self._cluster.stop()
        await self._admin.stop()

    @property
    def ports(self) -> dict[str, int | None]:
        """By listener, once all are open."""
        return {
            "grpc": self._grpc_ports.ext_proc,
            "health": self._grpc_ports.health,
            "metrics": self._admin_ports.metrics,
            "debug": self._admin_ports.debug,
        }

    # -- parts ------------------------------------------------------------------------------------

    async def _discover(self, assembly: Assembly) -> None:
        told = partial(self._picker_metrics.reloaded, "endpoints")
        discovery = discovery_of(self._options, assembly, self._store, self._log, told)
        await discovery.load()
        self.readiness.met("synced")
        self._tasks.own(discovery.run, "discovery")

    def _tolerated(self, tracer: RequestTracer | None) -> RequestTracer | None:
        """A tracer that fails costs a request its spans, nothing else."""
        if tracer is None:
            return None

        def failed(error: Exception) -> None:
            self._picker_metrics.plugin_failed("pick-observer", "tracer", "tracer")

        return cast("RequestTracer", Tolerant(tracer, ("picked", "refused"), None, failed))

    def _rules(self) -> Rules:
        obey_subset = not self._options.disable_endpoint_subset_filter
        if self._cluster is None:
            return Rules(NoObjectives(), NoRewrites(), obey_subset)
        return Rules(self._cluster.objectives, self._cluster.rewrites, obey_subset)

    def _build_admin(self) -> Admin:
        options = self._options
        registry = CollectorRegistry()
        add_process_metrics(registry)
        subjects: list[Subject] = [
            self._request_metrics,
            self._flow_metrics,
            PoolMetrics(self._pages.pool_state),
            self._picker_metrics,
        ]
        if self._cluster is not None:
            subjects.append(ClusterMetrics(self._cluster.state))
        subjects.append(KvMetrics(self._kv_events.state))
        subjects.append(latency_metrics(self._live))
        registry.register(Metrics(*subjects, old_names=options.emit_old_metrics))
        return Admin(
            registry,
            self._pages.sources(options.debug_allowed_hosts, kv_events=self._kv_events.page),
            metrics_host=options.metrics_host,
            metrics_port=options.metrics_port,
            debug_host=options.debug_host,
            debug_port=None if options.debug_port < 0 else options.debug_port,
            authorize=self._authorize(),
            tls=metrics_tls(options, self._log),
        )

    def _queue_state(self) -> QueueState | None:
        return self._pages.queue_state()

    def _active(self) -> Iterable[Workload]:
        return self._pages.active()

    def _authorize(self) -> Authorize | None:
        """Whoever the cluster lets read metrics; everybody where there is none."""
        if self._cluster is None or not self._options.metrics_endpoint_auth:
            return None
        return self._cluster.authorize

    def _wire_state(self) -> WireState:
        counters = getattr(self._serving.ext_proc, "counters", None)
        return WireState(
            streams=self._serving.process.open_streams,
            held_bytes=self._budget.held,
            held_limit=self._budget.limit,
            http2=asdict(counters) if counters else {},
        )

    async def _scrape(self, fetch: HttpFetch) -> None:
        async with fetch:
            await self._scraper.run()

    def _config_watch(self) -> FileWatch:
        path = self._options.config_file
        return FileWatch(path, read_config(path), changed=self._reload, lost=self._live.lost)

    def _reload(self, text: bytes) -> None:
        if setup := self._live.take(text):
            self._flow.setup = setup


def prefix_sizes(assembly: Assembly) -> dict[tuple[str, str], int]:
    """How many blocks each prefix producer holds, by its name and type."""
    return {
        (name, plugin.type): len(plugin.index)
        for name, plugin in assembly.instances.items()
        if isinstance(getattr(plugin, "index", None), PrefixIndex)
    }


def tracer_of(options: RunOptions, log: FilteringBoundLogger, clock: Clock) -> RequestTracer | None:
    """Who makes spans, where tracing is wanted and the environment says where they go."""
    tracer = sdk_tracer(os.environ, log) if options.tracing else None
    return RequestTracer(tracer, clock=clock, wall=time.time_ns) if tracer else None


class NoObjectives:
    """Without a cluster nobody has defined an objective: every priority is 0."""

    def priority(self, objective: str) -> int:
        return 0


class NoRewrites:
    """Without a cluster there are no rewrite rules."""

    def target(self, model: str) -> str | None:
        return None


def secret_of(options: RunOptions) -> bytes:
    """The key that signs session tokens: the file's content, else random for this process.

    Raises ConfigError when the file cannot be read or holds fewer than 16 bytes.
    """
    if not options.session_key_file:
        return secrets.token_bytes(32)
    path = options.session_key_file
    try:
        key = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigError([f"--session-key-file {path}: {error.strerror}"]) from error
    if len(key) < SHORTEST_KEY:
        raise ConfigError([f"--session-key-file {path}: needs {SHORTEST_KEY} bytes or more"])
    return key
