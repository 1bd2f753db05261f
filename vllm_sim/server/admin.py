"""`/admin/config` and `/fake_metrics`: settings that change while the server runs, as in Go."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from vllm_sim.durations import go_duration, seconds_of
from vllm_sim.engine import Pacing, profile_named
from vllm_sim.metrics.fake import FakeMetrics
from vllm_sim.server import fields
from vllm_sim.server.errors import bad_request
from vllm_sim.server.faults import GO_FAILURES
from vllm_sim.server.plain import answer

if TYPE_CHECKING:
    from vllm_sim.server.site import Site

Json = dict[str, Any]
DURATIONS = {
    "time-to-first-token": "ttft",
    "time-to-first-token-std-dev": "ttft_std",
    "inter-token-latency": "itl",
    "inter-token-latency-std-dev": "itl_std",
    "kv-cache-transfer-latency": "transfer",
    "kv-cache-transfer-latency-std-dev": "transfer_std",
    "prefill-overhead": "prefill_overhead",
    "prefill-time-per-token": "prefill_per_token",
    "prefill-time-std-dev": "prefill_std",
    "kv-cache-transfer-time-per-token": "transfer_per_token",
    "kv-cache-transfer-time-std-dev": "transfer_per_token_std",
}
LATENCIES = (*DURATIONS, "time-factor-under-load", "latency-calculator")
FAILURES = ("failure-injection-rate", "failure-types")
KNOWN = (*FAILURES, "fake-metrics", "profile", *LATENCIES)
CALCULATORS = ("", "constant", "per-token")


class Admin:
    """Handlers; a body is applied as a whole or refused as a whole."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def show(self, request: web.Request) -> web.Response:
        return answer(self._settings())

    def _settings(self) -> Json:
        options, replica = self._site.options, self._site.replica
        config = replica.engine.config
        shown: Json = {
            "model": options.model,
            "served-model-name": list(options.names),
            "port": self._site.port,
            "mode": options.mode,
            "seed": options.seed,
            "profile": config.profile.name,
            "max-model-len": replica.model_len,
            "max-num-seqs": config.seqs,
            "max-num-batched-tokens": config.token_budget,
            "kv-cache-size": config.blocks,
            "block-size": config.block_size,
            "failure-injection-rate": options.failure_rate,
            "failure-types": list(options.failure_types),
        }
        if replica.pacing is not None:
            shown |= _shown_latencies(replica.pacing)
        if replica.fakes is not None:
            shown["fake-metrics"] = dict(replica.fakes.given)
        return shown

    async def change(self, request: web.Request) -> web.Response:
        """Checks every field, then applies them; ApiError 400 names the one that is wrong."""
        body = await fields.read_json(request)
        for name in body:
            if name not in KNOWN:
                raise bad_request(f"{name!r} cannot be changed; known: {', '.join(KNOWN)}", name)
        site, replica = self._site, self._site.replica
        rate, kinds = _failures(body, site.options.failure_rate, site.options.failure_types)
        pacing = self._pacing({name: body[name] for name in LATENCIES if name in body})
        profile = _profile(body)
        fakes = self._fakes(fields.mapping(body, "fake-metrics"))
        site.options = replace(site.options, failure_rate=rate, failure_types=kinds)
        replica.retime(pacing, profile)
        if "fake-metrics" in body:
            replica.fake(fakes)
        return answer(self._settings())

    def _pacing(self, changes: Json) -> Pacing | None:
        """The latencies after the changes; None while the engine model decides them."""
        pacing = self._site.replica.pacing
        if not changes or pacing is None:
            if changes:
                raise bad_request(
                    "the engine model decides latencies here: change its profile, or start with "
                    "--latency-calculator",
                    next(iter(changes)),
                )
            return pacing
        values = {_attribute(name): _latency(name, value) for name, value in changes.items()}
        changed = replace(pacing, **values)
        try:
            changed.check()
        except ValueError as error:
            raise bad_request(str(error), str(error).split(" ")[0]) from None
        return changed

    def _fakes(self, changes: Json) -> FakeMetrics | None:
        fakes = self._site.replica.fakes
        try:
            return (fakes or FakeMetrics.of({})).merged(changes) if changes else fakes
        except ValueError as error:
            raise bad_request(str(error), "fake-metrics") from None

    async def set_fakes(self, request: web.Request) -> web.Response:
        """Merges the body into what /metrics makes up."""
        self._site.replica.fake(self._fakes(await fields.read_json(request)))
        return answer(self._given())

    async def show_fakes(self, request: web.Request) -> web.Response:
        return answer(self._given())

    async def clear_fakes(self, request: web.Request) -> web.Response:
        """The true metrics again."""
        self._site.replica.fake(None)
        return answer(self._given())

    def _given(self) -> Json:
        fakes = self._site.replica.fakes
        return {} if fakes is None else dict(fakes.given)


def _attribute(name: str) -> str:
    other = {"time-factor-under-load": "load_factor", "latency-calculator": "calculator"}
    return DURATIONS.get(name) or other[name]


def _latency(name: str, value: object) -> Any:
    """A calculator's name, a factor, or seconds of a Go duration or of whole nanoseconds."""
    if name == "latency-calculator":
        if value not in CALCULATORS:
            raise bad_request("latency-calculator must be constant, per-token or empty", name)
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name == "time-factor-under-load":
        if not number or not 1 <= float(str(value)) < 1e6:
            raise bad_request("time-factor-under-load must be a number of at least 1", name)
        return float(str(value))
    if type(value) is int and 0 <= value < 2**63:
        return value / 1e9
    try:
        return seconds_of(value if isinstance(value, str) else repr(value))
    except ValueError as error:
        raise bad_request(f"{name}: {error}", name) from None


def _shown_latencies(pacing: Pacing) -> Json:
    shown: Json = {name: go_duration(getattr(pacing, key)) for name, key in DURATIONS.items()}
    shown["time-factor-under-load"] = pacing.load_factor
    shown["latency-calculator"] = pacing.calculator
    return shown


def _failures(body: Json, rate: int, kinds: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    given = body.get("failure-injection-rate", rate)
    if type(given) is not int or not 0 <= given <= 100:
        raise bad_request("failure-injection-rate must lie in 0 to 100", "failure-injection-rate")
    types = body.get("failure-types", list(kinds))
    if not isinstance(types, list) or any(kind not in GO_FAILURES for kind in types):
        known = ", ".join(GO_FAILURES)
        raise bad_request(f"failure-types must be a list of {known}", "failure-types")
    return given, tuple(types)


def _profile(body: Json) -> str | None:
    """The replica profile whose step times hold from now on, None for no change."""
    name = fields.text(body, "profile")
    try:
        return name and profile_named(name).name
    except ValueError as error:
        raise bad_request(str(error), "profile") from None
