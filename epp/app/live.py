"""The configuration in force, and how a changed one takes its place without losing anything."""

import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from structlog.typing import FilteringBoundLogger

from epp.admission import Eviction, FlowControl, FlowReports, Gate, SheddingGate
from epp.admission.build import dispatch_observers, flow_settings
from epp.assemble import Assembly, House, assemble_text
from epp.config.catalogue import Catalogue
from epp.config.options import RunOptions
from epp.config.outside import file_plugins, installed_plugins
from epp.datastore import Datastore
from epp.datastore.shelf import Shelf
from epp.domain.clock import Clock
from epp.domain.pool import Mask, PoolView
from epp.domain.request import SubsetHint
from epp.errors import ConfigError
from epp.flow import Setup
from epp.observe.flow_metrics import FlowMetrics
from epp.observe.picker_metrics import PickerMetrics, PrefixHits
from epp.plugins.catalog import CATALOGUE
from epp.plugins.columns import PREFIX_TOKENS, PREFIX_TOTAL, named
from epp.points import HeaderProcessor, PickObserver, StateShelf
from epp.request.believed import believing
from epp.request.limits import Limits
from epp.request.reader import RequestReader
from epp.scheduling.measure import Observe, Observed, timed, timed_to_the_end
from epp.scheduling.subset import in_subset
from epp.ticket import PlacedTicket

AT_START_ONLY: Final = ("core-metrics-extractor", "file-discovery", "metrics-data-source")
"""Plugin types that say where endpoints and gauges come from."""


@dataclass(slots=True, frozen=True)
class Loaded:
    """What one configuration came to."""

    assembly: Assembly
    setup: Setup
    source: str


class LiveConfig:
    """Builds setups from configurations; remembers the one in force.

    State lives in the datastore under a plugin's name, type and shape, so the plugins of a new
    configuration find what those of the old one knew.
    """

    def __init__(
        self,
        options: RunOptions,
        store: Datastore,
        metrics: PickerMetrics,
        log: FilteringBoundLogger,
        *,
        clock: Clock,
        secret: bytes,
        flow_reports: FlowReports | None = None,
        pick_observers: tuple[PickObserver, ...] = (),
    ) -> None:
        self._options = options
        self._store = store
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._pick_observers = pick_observers
        self._secret = secret
        self._random = random.Random()
        self._failures_told: set[tuple[str, str, str]] = set()
        self.reloads = 0
        self.eviction = Eviction[PlacedTicket]()
        """Takes requests back where flow control is told to; to be connected to the wire."""
        self.flow_control: FlowControl | None = None
        """The queue; None as long as no configuration has switched it on."""
        self._reports = flow_reports or FlowMetrics()
        self._in_subset = everywhere if options.disable_endpoint_subset_filter else in_subset
        self._in_use: tuple[Shelf, ...] = ()
        self.now: Loaded = self._load(*self._first_text())

    def take(self, text: bytes) -> Setup | None:
        """Put a changed configuration in force and return its setup; None if it is broken.

        A broken one changes nothing: it costs a log line with every problem, and a count.
        """
        before = at_start_only(self.now.assembly)
        try:
            self.now = self._load(text, self._options.config_file)
        except ConfigError as error:
            self._metrics.reloaded("config", "refused")
            self._log.error("configuration refused, the old one stays", problems=error.problems)
            return None
        except Exception as error:  # noqa: BLE001 - logged with its place, and counted
            # Code of plugins runs here. What the error says may hold a value of the file.
            self._metrics.reloaded("config", "refused")
            self._log.error(
                "configuration refused, the old one stays",
                error=type(error).__name__,
                trace=place_of(error),
            )
            return None
        self.reloads += 1
        self._failures_told.clear()
        self._metrics.reloaded("config", "applied")
        self._log.info("configuration reloaded", source=self.now.source)
        after = at_start_only(self.now.assembly)
        if waits := sorted(t for t in AT_START_ONLY if before.get(t) != after.get(t)):
            self._log.warning("read at start only, so that changes wait for it", plugins=waits)
        return self.now.setup

    def lost(self, why: str) -> None:
        """The file cannot be read any more: what is in force stays."""
        self._metrics.reloaded("config", "refused")
        self._log.error("configuration lost, the old one stays", why=why)

    def _first_text(self) -> tuple[str | bytes | None, str]:
        options = self._options
        if options.config_text:
            return options.config_text, "--config-text"
        if options.config_file:
            return read_config(options.config_file), options.config_file
        return None, ""

    def _load(self, text: str | bytes | None, origin: str) -> Loaded:
        shelves: list[Shelf] = []
        try:
            loaded = self._built(text, origin, shelves)
        except Exception:
            # What was kept for the broken one goes; what is in force keeps all of its own.
            self._store.clear_unused_state(self._in_use)
            raise
        self._in_use = tuple(shelves)
        self._store.clear_unused_state(shelves)
        self._warn(loaded.assembly)
        self._show_blind(loaded.assembly)
        return loaded

    def _built(self, text: str | bytes | None, origin: str, shelves: list[Shelf]) -> Loaded:
        def shelf(name: str, plugin_type: str) -> StateShelf:
            shelves.append(self._store.shelf(name, plugin_type))
            return shelves[-1]

        house = House(
            clock=self._clock,
            random=self._random,
            shelf=shelf,
            secret=self._secret,
            failed=self._plugin_failed,
            measure=self._measure,
        )
        assembly = assemble_text(text, origin, self._catalogue(), house)
        return Loaded(assembly, self._setup(assembly), assembly.plan.loaded.origin)

    def _catalogue(self) -> Catalogue:
        catalogue = CATALOGUE.plus(installed_plugins(), "installed packages")
        for path in self._options.plugin_files:
            catalogue = catalogue.plus(file_plugins(path), path)
        return catalogue

    def _measure(self, point: str, type_name: str, name: str) -> Observe | None:
        return self._metrics.plugin(point, type_name, name).observe

    def _plugin_failed(self, point: str, type_name: str, name: str, error: Exception) -> None:
        """Counted each time, a log line only for the first of a plugin and kind of error."""
        self._metrics.plugin_failed(point, type_name, name)
        seen = (point, name, type(error).__name__)
        if seen not in self._failures_told:
            self._failures_told.add(seen)
            where = place_of(error)
            self._log.error("plugin failed", point=point, plugin=name, error=seen[2], trace=where)

    def _setup(self, assembly: Assembly) -> Setup:
        options = self._options
        own = (*self._prefix_hits(assembly), *self._pick_observers)
        observers = (*assembly.policy.pick_observers, *own)
        policy = replace(assembly.policy, pick_observers=observers)
        limits = Limits(
            body_bytes=options.max_body_bytes,
            header_bytes=options.max_header_bytes,
            json_depth=options.max_json_depth,
        )
        identities = [p for p in assembly.instances.values() if isinstance(p, HeaderProcessor)]
        reader = RequestReader(policy.parsers, limits, identities)
        believed = believing(reader, options.client_headers)
        return Setup(
            self._phase("parse", believed, "read", timed),
            self._phase("admit", self._gate(assembly), "admit", timed_to_the_end),
            policy,
        )

    def _prefix_hits(self, assembly: Assembly) -> tuple[PickObserver, ...]:
        """Who counts, for each producer of prefix matches, how much of a prompt it saw cached."""
        return tuple(
            PrefixHits(
                self._metrics,
                name,
                plugin.type,
                cached=named(PREFIX_TOKENS, name),
                total=named(PREFIX_TOTAL, name),
            )
            for name, plugin in assembly.instances.items()
            if hasattr(plugin, "held_blocks")
        )

    def _phase(self, phase: str, room: Any, method: str, by: Callable[..., Any]) -> Any:
        """`room` with the time in `method` counted to a phase of the request."""
        observe = self._metrics.phase(phase).observe
        return Observed(room, (method,), observe, by=by)

    def _gate(self, assembly: Assembly) -> Gate:
        """Flow control is one for the process, so that a reload loses nobody who waits."""
        settings = flow_settings(assembly.plan, assembly.instances)
        if settings is None:
            if self.flow_control:
                self.flow_control.open()
            return SheddingGate(assembly.policy.saturation)
        observers = dispatch_observers(assembly.plan, assembly.instances)
        if self.flow_control is None:
            self.flow_control = FlowControl(
                settings,
                observers,
                self._store,
                self._in_subset,
                self._reports,
                self._clock,
                self.eviction,
            )
        else:
            self.flow_control.reconfigure(settings, observers)
        return self.flow_control

    def _show_blind(self, assembly: Assembly) -> None:
        """Say on the metrics page which plugin sees nothing in which response mode."""
        self._metrics.blind.cells.clear()
        for name, plugin in assembly.instances.items():
            for mode, names in assembly.policy.blind.items():
                self._metrics.plugin_blind(name, plugin.type, mode, name in names)

    def _warn(self, assembly: Assembly) -> None:
        for warning in assembly.policy.warnings:
            self._log.warning("configuration", warning=warning)


def at_start_only(assembly: Assembly) -> dict[str, Any]:
    """Parameters that a reload does not put in force, by plugin type."""
    planned = assembly.plan.plugins
    return {one.type: one.params for one in planned if one.type in AT_START_ONLY}


def place_of(error: Exception) -> str:
    """Where it was raised, without what it says: that may quote what must not be logged."""
    return "".join(traceback.format_tb(error.__traceback__))


def everywhere(hint: SubsetHint, pool: PoolView) -> Mask:
    """Stands in for the subset where it is not obeyed."""
    return np.ones(len(pool), dtype=np.bool_)


def read_config(path: str) -> bytes:
    """The text of a configuration file. Raises ConfigError when it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError([f"--config-file {path}: cannot be read: {error.strerror}"]) from error
