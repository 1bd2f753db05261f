"""Numbers of one run, over the requests after the warm-up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from epp.domain.workload import USUAL
from epp_lab.outcome import Outcome

QUANTILES: Final = (50, 90, 99)


class Quantiles(msgspec.Struct, frozen=True):
    """Seconds; 0 where nothing was served."""

    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    mean: float = 0.0


class ClassMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """One class of requests: one priority, or one criticality of it."""

    requests: int
    served: int
    goodput: float
    ttft: Quantiles
    e2e: Quantiles
    waited: Quantiles = Quantiles()
    """In the picker, of those that were served."""
    tpot: Quantiles = Quantiles()


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """What a run comes to. Shares are 0..1, rates are requests in a second of virtual time."""

    requests: int
    served: int
    shed: int
    """Refused by the picker."""
    offered_rate: float
    goodput: float
    """Share of the requests that met the SLO, refused ones counted as missing it."""
    goodput_rate: float
    output_rate: float
    """Output tokens in a second, first arrival to last answer."""
    ttft: Quantiles
    tpot: Quantiles
    e2e: Quantiles
    hit_rate: float
    """Share of prompt tokens that engines took from their caches."""
    imbalance: float
    """Computed prompt tokens: the busiest replica's over the mean."""
    jain: float
    """Jain's index of the tenants' goodputs: 1 if all fare alike."""
    preemptions: int
    classes: dict[str, ClassMeasure]
    """By priority."""
    criticalities: dict[str, ClassMeasure] = {}
    """By priority and criticality, `10/5`; empty where all have the usual one."""
    refused: dict[str, int] = {}
    """Requests that were refused, by the reason clients are told."""
    fairness: float = 1.0
    """Jain's index of the tenants' good answers over their max-min fair shares of all good ones."""
    waited: Quantiles = Quantiles()
    """In the picker, of those that were served."""
    failed: int = 0
    """Placed, and refused by the engine."""


def measure(
    outcomes: Sequence[Outcome],
    *,
    ttft_s: float,
    tpot_s: float,
    replicas: int,
    warmup: float = 0.0,
) -> Measure:
    """Numbers of the outcomes, in order of arrival; the first share `warmup` is left out."""
    counted = outcomes[int(len(outcomes) * warmup) :]
    if not counted:
        raise ValueError("no request is left to measure")
    served = [each for each in counted if each.served]
    good = [each for each in served if each.ttft <= ttft_s and each.tpot <= tpot_s]
    failed = sum(not each.served and bool(each.replica) for each in counted)
    lasts = counted[-1].arrival - counted[0].arrival or 1.0
    ended = max((each.arrival + each.e2e for each in served), default=0.0)
    return Measure(
        requests=len(counted),
        served=len(served),
        shed=len(counted) - len(served) - failed,
        failed=failed,
        offered_rate=len(counted) / lasts,
        goodput=len(good) / len(counted),
        goodput_rate=len(good) / lasts,
        output_rate=sum(each.output_tokens for each in served)
        / max(ended - counted[0].arrival, 1e-9),
        ttft=quantiles(each.ttft for each in served),
        tpot=quantiles(each.tpot for each in served if each.output_tokens > 1),
        e2e=quantiles(each.e2e for each in served),
        hit_rate=share(sum(e.cached_tokens for e in served), sum(e.prompt_tokens for e in served)),
        imbalance=imbalance(served, replicas),
        jain=jain(counted, {id(each) for each in good}),
        preemptions=sum(each.preemptions for each in served),
        classes=_classes(counted, {id(each) for each in good}),
        criticalities=_criticalities(counted, {id(each) for each in good}),
        refused=dict(Counter(each.refused for each in counted if not each.served)),
        fairness=fairness(counted, {id(each) for each in good}),
        waited=quantiles(each.waited for each in served),
    )


def quantiles(values: Iterable[float]) -> Quantiles:
    """Linear between the two nearest values."""
    found = list(values)
    if not found:
        return Quantiles()
    p50, p90, p99 = np.percentile(found, QUANTILES)
    return Quantiles(float(p50), float(p90), float(p99), float(np.mean(found)))


def imbalance(served: Iterable[Outcome], replicas: int) -> float:
    """Largest over mean of the prompt tokens each replica computed; 1 if nothing was."""
    computed: dict[str, int] = defaultdict(int)
    for each in served:
        computed[each.replica] += each.prompt_tokens - each.cached_tokens
    total = sum(computed.values())
    return max(computed.values()) * replicas / total if total else 1.0


def jain(counted: Iterable[Outcome], good: set[int]) -> float:
    """Jain's index of the tenants' shares of good answers in what each asked for."""
    asked, met = _by_tenant(counted, good)
    return jain_index([met[tenant] / asked[tenant] for tenant in asked])


def fairness(counted: Iterable[Outcome], good: set[int]) -> float:
    """Jain's index of the tenants' good answers over their max-min fair shares of all of them.

    Nobody has a right to more than was asked for; what one leaves is for the others. So serving
    all in proportion to what they ask for, which `jain` calls fair, is not.
    """
    asked, met = _by_tenant(counted, good)
    fair = max_min(asked, float(sum(met.values())))
    return jain_index([met[tenant] / fair[tenant] for tenant in asked if fair[tenant] > 0.0])


def max_min(asked: Mapping[str, int], amount: float) -> dict[str, float]:
    """`amount` dealt out so that the least served have as much as can be, none more than asked."""
    fair: dict[str, float] = {}
    for place, tenant in enumerate(sorted(asked, key=lambda name: asked[name])):
        fair[tenant] = min(float(asked[tenant]), amount / (len(asked) - place))
        amount -= fair[tenant]
    return fair


def jain_index(values: Sequence[float]) -> float:
    """(sum x)^2 / (n * sum x^2), 1 / n to 1; 1 if all are 0."""
    squares = sum(x * x for x in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def _by_tenant(counted: Iterable[Outcome], good: set[int]) -> tuple[Counter[str], Counter[str]]:
    asked, met = Counter[str](), Counter[str]()
    for each in counted:
        asked[each.tenant] += 1
        met[each.tenant] += id(each) in good
    return asked, met


def _classes(counted: Sequence[Outcome], good: set[int]) -> dict[str, ClassMeasure]:
    by_class: dict[int, list[Outcome]] = defaultdict(list)
    for each in counted:
        by_class[each.priority].append(each)
    return {str(name): _class(by_class[name], good) for name in sorted(by_class, reverse=True)}


def _criticalities(counted: Sequence[Outcome], good: set[int]) -> dict[str, ClassMeasure]:
    by_class: dict[tuple[int, int], list[Outcome]] = defaultdict(list)
    for each in counted:
        by_class[each.priority, each.criticality].append(each)
    if {criticality for _, criticality in by_class} == {USUAL}:
        return {}
    ordered = sorted(by_class, reverse=True)
    return {f"{p}/{c}": _class(by_class[p, c], good) for p, c in ordered}


def _class(members: Sequence[Outcome], good: set[int]) -> ClassMeasure:
    served = [each for each in members if each.served]
    return ClassMeasure(
        requests=len(members),
        served=len(served),
        goodput=sum(id(each) in good for each in members) / len(members),
        ttft=quantiles(each.ttft for each in served),
        e2e=quantiles(each.e2e for each in served),
        waited=quantiles(each.waited for each in served),
        tpot=quantiles(each.tpot for each in served if each.output_tokens > 1),
    )


def share(part: float, whole: float) -> float:
    """`part / whole`, 0 of nothing."""
    return part / whole if whole else 0.0
