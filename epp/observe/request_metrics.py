"""What requests did: counts, sizes, tokens and times by model, tenant and priority.

Observed on the request path, so each series binds its cells once. Which families are blind in which
response mode is said in docs/metrics.md.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from prometheus_client.core import Metric

from epp.domain.decision import Decision
from epp.domain.endpoint import Endpoint
from epp.domain.request import Key, Request
from epp.domain.response import Ending, ResponseMode, Usage
from epp.errors import Evicted, NoEndpoints, Refused
from epp.observe import request_specs as specs
from epp.observe.labels import OTHER, LabelCap
from epp.observe.series import Family, Histogram, Tally, histograms, tallies

CACHED_KEYS: Final = 4096
MODEL_SERVER_ERROR: Final = "ModelServerError"


class Outcome(Protocol):
    """How a placed request ended: status 0 if no response headers came, sizes in bytes."""

    @property
    def ending(self) -> Ending: ...
    @property
    def status(self) -> int: ...
    @property
    def duration(self) -> float: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def response_bytes(self) -> int: ...
    @property
    def mode(self) -> ResponseMode: ...


class Series:
    """The bound cells of one combination of request labels."""

    __slots__ = (
        "cached_tokens",
        "duration",
        "input_tokens",
        "itl",
        "ntpot",
        "output_tokens",
        "request_bytes",
        "requests",
        "response_bytes",
        "running",
        "tpot",
        "ttft_streamed",
        "ttft_whole",
        "values",
    )

    def __init__(self, house: "RequestMetrics", values: tuple[str, ...]) -> None:
        self.values = values
        self.requests = house.requests.bind(*values)
        self.running = house.running.bind(*values)
        self.duration = house.duration.bind(*values)
        self.request_bytes = house.request_bytes.bind(*values)
        self.response_bytes = house.response_bytes.bind(*values)
        self.input_tokens = house.input_tokens.bind(*values)
        self.cached_tokens = house.cached_tokens.bind(*values)
        self.output_tokens = house.output_tokens.bind(*values)
        self.ntpot = house.ntpot.bind(*values)
        self.tpot = house.tpot.bind(*values)
        self.itl = house.itl.bind(*values)
        self.ttft_streamed = house.ttft.bind(*values, "true")
        self.ttft_whole = house.ttft.bind(*values, "false")


class Stay:
    """One placed request in the metrics: it ends in the series it began in."""

    __slots__ = ("answered", "first", "over", "series")

    def __init__(self, series: Series) -> None:
        self.series = series
        self.answered: float | None = None
        self.first: float | None = None
        self.over = False


STAY: Final = Key[Stay]("metrics-stay")


class RequestMetrics:
    """Observes requests; every method but `collect` is called on the request path.

    `max_series` bounds the combinations of request labels: past it the tenant of a new combination
    is shown as `other`, and then its model too, unless the model is pinned. `endpoints` are those
    of the pool now: attempts to place at others are dropped from the page, None drops none.
    """

    def __init__(
        self,
        *,
        models: LabelCap | None = None,
        tenants: LabelCap | None = None,
        max_series: int = 2000,
        max_attempts: int = 10_000,
        endpoints: Callable[[], Iterable[Endpoint]] | None = None,
    ) -> None:
        self._endpoints = endpoints
        self.models = models or LabelCap()
        self.tenants = tenants or LabelCap()
        self._max_series = max_series
        self._max_attempts = max_attempts
        self._series: dict[tuple[str, ...], Series] = {}
        self._by_raw: dict[tuple[str, str, str, int], Series] = {}
        self._attempts_by_raw: dict[tuple[str, str, str, int], Tally] = {}
        self.requests = tallies(specs.REQUESTS)
        self.errors = tallies(specs.ERRORS)
        self.running = tallies(specs.RUNNING)
        self.duration = histograms(specs.DURATION)
        self.request_bytes = histograms(specs.REQUEST_BYTES)
        self.response_bytes = histograms(specs.RESPONSE_BYTES)
        self.input_tokens = histograms(specs.INPUT_TOKENS)
        self.cached_tokens = histograms(specs.CACHED_TOKENS)
        self.output_tokens = histograms(specs.OUTPUT_TOKENS)
        self.ntpot = histograms(specs.NTPOT)
        self.ttft = histograms(specs.TTFT)
        self.tpot = histograms(specs.TPOT)
        self.itl = histograms(specs.ITL)
        self.scheduling = histograms(specs.SCHEDULING)
        self.attempts = tallies(specs.ATTEMPTS)
        self.refusals = tallies(specs.REFUSALS)
        self.processing = histograms(specs.PROCESSING)
        self._scheduled = self.scheduling.bind()
        self._processed = self.processing.bind()

    # -- the life of a request ----------------------------------------------------------------

    def placed(self, request: Request, decision: Decision, seconds: float) -> None:
        """A request was given an endpoint; `seconds` is what placing it took."""
        series = self._series_of(request)
        request.facts.put(STAY, Stay(series))
        series.requests.value += 1
        series.running.value += 1
        series.request_bytes.observe(request.body_size)
        self._scheduled.observe(seconds)
        self._attempt(request, decision).value += 1

    def refused(self, request: Request | None, refusal: Refused, seconds: float) -> None:
        """A request was answered by the picker, `seconds` after it came; None if unreadable."""
        values = self._refused_values(request, refusal) if request else ("", "", "", "0")
        self.requests.bind(*values).value += 1
        self.errors.bind(*values, refusal.code).value += 1
        self.refusals.bind(str(refusal.status), refusal.reason).value += 1
        self._processed.observe(seconds)
        if isinstance(refusal, NoEndpoints):
            self.attempts.bind("failure", values[1], "", "", "").value += 1

    def _refused_values(self, request: Request, refusal: Refused) -> tuple[str, ...]:
        """What the client did wrong takes no names: whoever invents them would use them all up."""
        if refusal.status >= 429:
            return self._series_of(request).values
        models, tenants = self.models.shown, self.tenants.shown
        model, target, priority = request.model, request.target_model, str(request.priority)
        values = (models(model), models(target), tenants(request.fairness_id), priority)
        if values in self._series:
            return values
        known = models(model) if model == target else OTHER
        return (known, known, OTHER, priority)

    def answered(self, seconds: float) -> None:
        """A placed request left the picker, `seconds` after it came."""
        self._processed.observe(seconds)

    def response_started(
        self, request: Request, decision: Decision, status: int, seconds: float
    ) -> None:
        """Response headers came, `seconds` after the request."""
        if stay := request.facts.get(STAY):
            stay.answered = seconds

    def first_chunk(self, request: Request, decision: Decision, seconds: float) -> None:
        """The first piece of the response body came (full mode only)."""
        if stay := request.facts.get(STAY):
            stay.first = seconds

    def chunk_gap(self, request: Request, seconds: float) -> None:
        """A further piece of a streamed response came, `seconds` after the one before."""
        if stay := request.facts.get(STAY):
            stay.series.itl.observe(seconds)

    def ended(self, request: Request, decision: Decision, outcome: Outcome) -> None:
        """A placed request is over; a second call, or one for a stranger, changes nothing."""
        stay = request.facts.get(STAY)
        if stay is None or stay.over:
            return
        stay.over = True
        series = stay.series
        series.running.value -= 1
        series.duration.observe(outcome.duration)
        if outcome.mode is ResponseMode.FULL:
            series.response_bytes.observe(outcome.response_bytes)
        if code := error_code(outcome):
            self.errors.bind(*series.values, code).value += 1
            return
        if outcome.status == 200 and not self.models.knows(request.target_model):
            # Model servers answer 404 to a name that clients have made up.
            self.pin(models=(request.target_model,))
        first = first_token(request, outcome, stay)
        if first is not None:
            (series.ttft_streamed if request.stream else series.ttft_whole).observe(first)
        if outcome.usage is not None:
            observe_usage(series, request, outcome, outcome.usage, first)

    # -- what is known and what is shown --------------------------------------------------------

    def pin(self, models: Iterable[str] = (), tenants: Iterable[str] = ()) -> None:
        """Names from the configuration or from model servers: never shown as `other`."""
        self.models.pin(models)
        self.tenants.pin(tenants)
        self._by_raw.clear()

    def families(self) -> tuple[Family[Tally] | Family[Histogram], ...]:
        return (
            self.requests,
            self.errors,
            self.running,
            self.duration,
            self.request_bytes,
            self.response_bytes,
            self.input_tokens,
            self.cached_tokens,
            self.output_tokens,
            self.ntpot,
            self.ttft,
            self.tpot,
            self.itl,
            self.scheduling,
            self.attempts,
            self.refusals,
            self.processing,
        )

    def collect(self, *, old_names: bool) -> Iterator[Metric]:
        if self._endpoints is not None:
            self._drop_attempts_at_others(self._endpoints())
        for family in self.families():
            yield from family.collect(old_names=old_names)

    def _drop_attempts_at_others(self, endpoints: Iterable[Endpoint]) -> None:
        """Pods come and go all day: without this their series would stay for good."""
        there = {(e.name, e.namespace, str(e.port)) for e in endpoints}
        there |= {("", "", ""), (OTHER, OTHER, OTHER)}
        cells = self.attempts.cells
        for values in [values for values in cells if values[2:] not in there]:
            del cells[values]
            self._attempts_by_raw.clear()

    # -- binding --------------------------------------------------------------------------------

    def _series_of(self, request: Request) -> Series:
        raw = (request.model, request.target_model, request.fairness_id, request.priority)
        series = self._by_raw.get(raw)
        if series is None:
            if len(self._by_raw) >= CACHED_KEYS:
                self._by_raw.clear()
            series = self._by_raw[raw] = self._bind(*raw)
        return series

    def _bind(self, model: str, target: str, tenant: str, priority: int) -> Series:
        models, tenants = self.models, self.tenants
        values: tuple[str, ...] = (models(model), models(target), tenants(tenant), str(priority))
        if values not in self._series and len(self._series) >= self._max_series:
            values = self._folded(values)
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = Series(self, values)
        return series

    def _folded(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """Where a combination goes that has no room of its own."""
        model, target, _, priority = values
        known = self.models.knows(model) and self.models.knows(target)
        if known or (model, target, OTHER, priority) in self._series:
            return (model, target, OTHER, priority)
        return (OTHER, OTHER, OTHER, priority)

    def _attempt(self, request: Request, decision: Decision) -> Tally:
        endpoint = decision.endpoint
        raw = (request.target_model, endpoint.name, endpoint.namespace, endpoint.port)
        tally = self._attempts_by_raw.get(raw)
        if tally is None:
            if len(self._attempts_by_raw) >= CACHED_KEYS:
                self._attempts_by_raw.clear()
            tally = self._attempts_by_raw[raw] = self._bind_attempt(request, decision)
        return tally

    def _bind_attempt(self, request: Request, decision: Decision) -> Tally:
        endpoint = decision.endpoint
        where = (endpoint.name, endpoint.namespace, str(endpoint.port))
        values = ("success", self.models(request.target_model), *where)
        if values not in self.attempts.cells and len(self.attempts.cells) >= self._max_attempts:
            values = ("success", OTHER, OTHER, OTHER, OTHER)
        return self.attempts.bind(*values)


def error_code(outcome: Outcome) -> str:
    """The `error_code` a placed request ends with; empty where it did not fail."""
    if outcome.ending is Ending.FAULT:
        return "Internal"
    if outcome.ending is Ending.EVICTED:
        return Evicted.code
    failed = outcome.ending is Ending.UPSTREAM_ERROR or outcome.status >= 400
    return MODEL_SERVER_ERROR if failed else ""


def first_token(request: Request, outcome: Outcome, stay: Stay) -> float | None:
    """Seconds to the first token, None where this response mode cannot see it.

    Without the body the headers of a whole answer come with its tokens, while those of a streamed
    one come before prefill and say nothing.
    """
    if outcome.mode is ResponseMode.FULL:
        return stay.first
    return None if request.stream else stay.answered


def observe_usage(
    series: Series, request: Request, outcome: Outcome, usage: Usage, first: float | None
) -> None:
    """Tokens, and times by token, of a response that said how many it had."""
    series.input_tokens.observe(usage.prompt_tokens)
    series.output_tokens.observe(usage.completion_tokens)
    if usage.cached_tokens is not None:
        series.cached_tokens.observe(usage.cached_tokens)
    if usage.completion_tokens > 0:
        series.ntpot.observe(outcome.duration / usage.completion_tokens)
    if request.stream and first is not None and usage.completion_tokens > 1:
        series.tpot.observe((outcome.duration - first) / (usage.completion_tokens - 1))
