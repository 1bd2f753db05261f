"""Faults on demand: what to break, how often, and the dice that decide.

`POST /sim/faults` merges its fields into the current ones; `{"clear": true}` starts from none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from random import Random
from typing import Any

from vllm_sim.server.errors import ApiError, bad_request

METRICS_MODES = ("ok", "stale", "wrong", "broken", "error", "hang", "empty")
SIGNED = ("clock_skew_s",)
HEALTH_MODES = ("ok", "failing")
GO_FAILURES = {
    "rate_limit": 429,
    "invalid_api_key": 401,
    "context_length": 400,
    "server_error": 503,
    "invalid_request": 400,
    "model_not_found": 404,
}


@dataclass(slots=True)
class Faults:
    """Rates are 0 to 1 for each request; see `docs/simulator.md` for the table.

    `hang_rate`: accept and never answer. `refuse_rate`: cut the connection without an answer.
    `error_rate` and `error_status`: answer with that status. `reset_rate` and `reset_after_tokens`:
    cut a stream. `slow_bytes`: streams let so many bytes a second out, 0 all at once. `slow`: steps
    take so many times longer. `stall`: no token comes until it is lifted. `clock_skew_s`: how far
    the clock is ahead that events and the LoRA gauge are stamped with. `metrics` and its three
    values; `health`; losses of KV event batches.
    """

    hang_rate: float = 0.0
    refuse_rate: float = 0.0
    error_rate: float = 0.0
    error_status: int = 503
    reset_rate: float = 0.0
    reset_after_tokens: int = 3
    slow_bytes: float = 0.0
    slow: float = 1.0
    stall: bool = False
    clock_skew_s: float = 0.0
    metrics: str = "ok"
    metrics_running: float = 0.0
    metrics_waiting: float = 0.0
    metrics_kv_usage: float = 0.0
    health: str = "ok"
    kv_event_loss: float = 0.0
    kv_event_duplicate: float = 0.0
    kv_event_reorder: float = 0.0

    def merged(self, body: dict[str, Any]) -> Faults:
        """These faults with the body's fields over them; ApiError 400 names a wrong field."""
        values = asdict(self)
        for name, value in body.items():
            if name not in values:
                known = ", ".join(values)
                raise bad_request(f"fault {name!r} is unknown; known: {known}", name)
            values[name] = _checked(name, value, values[name])
        return Faults(**values)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def active(self) -> list[str]:
        """Names of fields that differ from a healthy server's."""
        healthy = Faults()
        return [
            field.name
            for field in fields(self)
            if getattr(self, field.name) != getattr(healthy, field.name)
        ]


def _checked(name: str, value: Any, current: Any) -> Any:
    if isinstance(current, bool):
        if not isinstance(value, bool):
            raise bad_request(f"{name} must be true or false", name)
        return value
    if isinstance(current, str):
        allowed = METRICS_MODES if name == "metrics" else HEALTH_MODES
        if value not in allowed:
            raise bad_request(f"{name} must be one of {', '.join(allowed)}", name)
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise bad_request(f"{name} must be a number", name)
    if value < 0 and name not in SIGNED:
        raise bad_request(f"{name} must not be negative", name)
    if (name.endswith("_rate") or name.startswith("kv_event")) and value > 1:
        raise bad_request(f"{name} must lie between 0 and 1", name)
    if name == "slow" and value == 0:
        raise bad_request("slow must be greater than 0", name)
    if name == "error_status" and not (400 <= value <= 599):
        raise bad_request("error_status must lie between 400 and 599", name)
    return type(current)(value)


class Dice:
    """The fault draws of one server, from its seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def hit(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate

    def failure(self, rate_percent: int, kinds: tuple[str, ...]) -> ApiError | None:
        """A Go style injected failure, at so many per cent, of one of the kinds (none: all)."""
        if not self.hit(rate_percent / 100):
            return None
        return failure_named(self._random.choice(kinds or tuple(GO_FAILURES)))


def failure_named(kind: str) -> ApiError:
    """The error of a Go style failure type; ApiError 400 when there is no such type."""
    status = GO_FAILURES.get(kind)
    if status is None:
        return bad_request(f"failure type {kind!r} is unknown")
    return ApiError(status, f"Injected failure: {kind}")
