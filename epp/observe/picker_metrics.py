"""The picker itself: what it costs, what it holds, what goes wrong in it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias, TypeVar

import msgspec
from prometheus_client.core import Metric

from epp.domain.decision import Decision
from epp.domain.pool import PoolView
from epp.domain.request import Request
from epp.observe import picker_specs as specs
from epp.observe.series import Family, Histogram, Spec, Tally, histograms, tallies

BYTES_PER_TOKEN: Final = 4
"""The estimate by which prompts without token ids are counted in tokens."""
SOURCE: Final = "metrics-data-source"
EXTRACTOR: Final = "core-metrics-extractor"
UNREADABLE: Final = "page"
"""The reason of a scrape whose page came but could not be read."""


class ScrapeState(Protocol):
    """Totals of scraping since the start; `errors` goes by reason."""

    @property
    def scrapes(self) -> int: ...
    @property
    def page_bytes(self) -> int: ...
    @property
    def errors(self) -> Mapping[str, int]: ...


@dataclass(slots=True, frozen=True)
class NoScrapes:
    """Where nothing scrapes."""

    scrapes: int = 0
    page_bytes: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)


L = TypeVar("L", bound=tuple[str, ...])
PrefixSizes: TypeAlias = Mapping[tuple[str, str], int]
"""Plugin name and type of each prefix producer to the blocks its index holds."""


class WireState(msgspec.Struct, frozen=True):
    """What the ext_proc port holds now; `http2` are counters since the start, by event."""

    streams: int = 0
    held_bytes: int = 0
    held_limit: int = 0
    http2: Mapping[str, int] = {}


class PickerMetrics:
    """Bind once, observe often: `phase`, `plugin` and `prefix` return the cells to keep.

    What others count themselves is asked for at each scrape: `wire_state`, `scrape_state`,
    `prefix_sizes`, and the number of decision records.
    """

    def __init__(
        self,
        *,
        commit: str = "",
        build_ref: str = "",
        wire_state: Callable[[], WireState] = WireState,
        scrape_state: Callable[[], ScrapeState] = NoScrapes,
        prefix_sizes: Callable[[], PrefixSizes] = dict,
        records: Callable[[], int] = lambda: 0,
    ) -> None:
        self._wire_state = wire_state
        self._scrape_state = scrape_state
        self._prefix_sizes = prefix_sizes
        self._records = records
        self.phases = histograms(specs.PHASES)
        self.plugins = histograms(specs.PLUGINS)
        self.plugin_errors = tallies(specs.PLUGIN_ERRORS)
        self.blind = tallies(specs.BLIND)
        self.prefix_ratio = histograms(specs.PREFIX_RATIO)
        self.prefix_bytes = histograms(specs.PREFIX_BYTES)
        self.lag = tallies(specs.LAG)
        self.lags = histograms(specs.LAGS)
        self.reloads = tallies(specs.RELOADS)
        self.tasks = tallies(specs.TASKS)
        self.info = tallies(specs.INFO)
        self.info.bind(commit, build_ref).set(1)
        self._lag, self._lags = self.lag.bind(), self.lags.bind()

    def phase(self, phase: str) -> Histogram:
        """Seconds of one phase: `parse`, `admit`, `schedule` or `reply`."""
        return self.phases.bind(phase)

    def plugin(self, extension_point: str, plugin_type: str, plugin_name: str) -> Histogram:
        """Seconds in one plugin."""
        return self.plugins.bind(extension_point, plugin_type, plugin_name)

    def plugin_failed(self, extension_point: str, plugin_type: str, plugin_name: str) -> None:
        self.plugin_errors.bind(extension_point, plugin_type, plugin_name).add()

    def plugin_blind(self, plugin_name: str, plugin_type: str, mode: str, blind: bool) -> None:
        self.blind.bind(plugin_name, plugin_type, mode).set(float(blind))

    def prefix(self, plugin_name: str, plugin_type: str) -> tuple[Histogram, Histogram]:
        """Hit ratio (0 to 1) and hit bytes of one prefix producer."""
        ratio = self.prefix_ratio.bind(plugin_name, plugin_type)
        return ratio, self.prefix_bytes.bind(plugin_name, plugin_type)

    def lagged(self, seconds: float) -> None:
        self._lag.set(seconds)
        self._lags.observe(seconds)

    def reloaded(self, what: str, outcome: str) -> None:
        """`what` is `config` or `endpoints`, `outcome` is `applied` or `refused`."""
        self.reloads.bind(what, outcome).add()

    def task_died(self, name: str) -> None:
        self.tasks.bind(name).add()

    def families(self) -> tuple[Family[Tally] | Family[Histogram], ...]:
        return (
            self.phases,
            self.plugins,
            self.plugin_errors,
            self.blind,
            self.prefix_ratio,
            self.prefix_bytes,
            self.lag,
            self.lags,
            self.reloads,
            self.tasks,
            self.info,
        )

    def collect(self, *, old_names: bool) -> Iterator[Metric]:
        for family in (*self.families(), *self.asked()):
            yield from family.collect(old_names=old_names)

    def asked(self) -> Iterator[Family[Tally]]:
        """Families that others count."""
        yield from wire_families(self._wire_state())
        yield from scrape_families(self._scrape_state())
        yield told(specs.PREFIX_SIZE, self._prefix_sizes())
        yield told(specs.RECORDS, {(): self._records()})


def told(spec: Spec, values: Mapping[L, float]) -> Family[Tally]:
    """A family of numbers that somebody else keeps, by label values."""
    family = tallies(spec)
    for labels, value in values.items():
        family.bind(*labels).set(value)
    return family


def wire_families(wire: WireState) -> Iterator[Family[Tally]]:
    """The gauges and counters of the ext_proc port."""
    yield told(specs.STREAMS, {(): wire.streams})
    yield told(specs.HELD, {(): wire.held_bytes})
    yield told(specs.HELD_LIMIT, {(): wire.held_limit})
    yield told(specs.HTTP2, {(event,): count for event, count in wire.http2.items()})


def scrape_families(state: ScrapeState) -> Iterator[Family[Tally]]:
    """How scraping fares, under the Go pickers' names and by reason."""
    unreadable = state.errors.get(UNREADABLE, 0)
    yield told(specs.POLL_ERRORS, {(SOURCE,): sum(state.errors.values()) - unreadable})
    yield told(specs.EXTRACT_ERRORS, {(SOURCE, EXTRACTOR): unreadable})
    yield told(specs.SCRAPES, {(): state.scrapes})
    yield told(specs.SCRAPE_ERRORS, {(reason,): count for reason, count in state.errors.items()})
    yield told(specs.PAGE_BYTES, {(): state.page_bytes})


class PrefixHits:
    """Observes, for each pick, how much of the prompt one producer believes to be cached there.

    One of those who learn of picks; `cached` and `total` are the producer's columns, in tokens.
    """

    def __init__(
        self, metrics: PickerMetrics, name: str, plugin_type: str, *, cached: str, total: str
    ) -> None:
        self._ratio, self._bytes = metrics.prefix(name, plugin_type)
        self._cached = cached
        self._total = total

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> None:
        cached, total = pool.get(self._cached), pool.get(self._total)
        if cached is None or total is None:
            return
        row = pool.row(decision.endpoint)
        if row is None or not (most := int(total[row])):
            return
        tokens = int(cached[row])
        self._ratio.observe(tokens / most)
        self._bytes.observe(tokens * BYTES_PER_TOKEN)
