"""Runs of pure decode in closed form.

With B decodes of summed context S, step i of the run takes a + c*(S + B*i) seconds, so n steps take
n*a + c*(n*S + B*n*(n-1)/2). The run ends before the first finish, at the time limit, or where the
free blocks end.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm_sim.engine.core import Engine

FOREVER_S = 1e9
"""Beyond this many seconds a time limit is none."""


def affordable_steps(engine: Engine, seconds: float) -> tuple[int, float]:
    """How many decode steps fit in `seconds`, and how long they take."""
    most = engine.batch.steps_before_a_finish()
    if most < 1 or seconds <= 0:
        return 0, 0.0
    flat, slope = _coefficients(engine)
    context, decodes = engine.batch.context, len(engine.batch)
    steps = min(most, _steps_within(flat + slope * context, slope * decodes, seconds))
    while steps > 0 and engine.batch.growth(steps) > engine.pool.free:
        steps //= 2
    while steps > 0 and _duration(steps, flat + slope * context, slope * decodes) > seconds:
        steps -= 1
    return steps, _duration(steps, flat + slope * context, slope * decodes)


def can_leap(engine: Engine) -> bool:
    """Whether the next step is one of a run of pure decode that may be passed over."""
    if not engine.quiet or not engine.batch.members or engine.batch.steps_before_a_finish() < 1:
        return False
    waits_until = engine.transfers.next_time()
    if waits_until is not None and waits_until <= engine.clock:
        return False
    return engine.batch.growth(1) <= engine.pool.free


def time_to_change(engine: Engine) -> float:
    """Seconds to the end of the step in which somebody finishes, or to the end of the blocks."""
    steps, duration = affordable_steps(engine, FOREVER_S * 2)
    if steps < 1 or steps < engine.batch.steps_before_a_finish():
        return duration
    flat, slope = _coefficients(engine)
    context, decodes = engine.batch.context, len(engine.batch)
    return _duration(steps + 1, flat + slope * context, slope * decodes)


def _coefficients(engine: Engine) -> tuple[float, float]:
    """Seconds of a step without its context, and seconds for each token of context."""
    profile, count = engine.config.profile, len(engine.batch)
    weights = max(profile.w0 + profile.w1 * count, profile.p0 + profile.p1 * count)
    flat = weights + (profile.seq + profile.d1) * count + profile.d0
    scale = (1 + profile.lora_overhead if engine.batch.loras else 1) * engine.slowdown / 1000
    return flat * scale, profile.kv * scale


def _steps_within(first: float, growth: float, seconds: float) -> int:
    """The largest n with n*first + growth*n*(n-1)/2 <= seconds, up to rounding."""
    if seconds > FOREVER_S:
        return int(FOREVER_S)
    if growth <= 0:
        return int(seconds / first)
    linear = first - growth / 2
    return int((sqrt(linear * linear + 2 * growth * seconds) - linear) / growth)


def _duration(steps: int, first: float, growth: float) -> float:
    return steps * first + growth * steps * (steps - 1) / 2
