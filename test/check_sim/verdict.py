"""Two recordings side by side: what differs, what of that is allowed, what is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
from check_sim.shapes import Difference, differences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from check_sim.recording import Recording

PARTS = ("answers", "metrics", "counters")


@dataclass(frozen=True, slots=True)
class Allowed:
    """A difference that is meant, by a pattern (`*` is anything) of where it is, and why."""

    where: str
    reason: str
    simulated: str = "*"

    def covers(self, difference: Difference) -> bool:
        where = difference.where.replace("[", "(").replace("]", ")")
        pattern = self.where.replace("[", "(").replace("]", ")")
        return fnmatchcase(where, pattern) and fnmatchcase(difference.simulated, self.simulated)


@dataclass(slots=True)
class Verdict:
    """Differences by the rule that allows them; those under None are faults."""

    rows: list[tuple[Difference, Allowed | None]]
    compared: dict[str, int] = field(default_factory=dict)

    @property
    def faults(self) -> list[Difference]:
        return [difference for difference, rule in self.rows if rule is None]

    def used(self) -> dict[Allowed, int]:
        """How many differences each rule allowed."""
        counts: dict[Allowed, int] = {}
        for _, rule in self.rows:
            if rule is not None:
                counts[rule] = counts.get(rule, 0) + 1
        return counts


def judge(real: Recording, simulated: Recording, allowed: Sequence[Allowed]) -> Verdict:
    """Every difference of the two recordings with the first rule that allows it."""
    rows = [
        (difference, next((rule for rule in allowed if rule.covers(difference)), None))
        for difference in all_differences(real, simulated)
    ]
    compared = {part: len({*real[part]} & {*simulated[part]}) for part in PARTS}
    compared["answers that the recording lacks"] = len({*simulated["answers"]} - {*real["answers"]})
    compared["events"] = sum(map(len, real["events"]["batches"].values()))
    return Verdict(rows, compared)


def all_differences(real: Recording, simulated: Recording) -> Iterator[Difference]:
    """Answers, metrics, counters, then events. Answers are compared where both have been asked:
    a recording may be older than a case."""
    for name in (name for name in real["answers"] if name in simulated["answers"]):
        yield from differences(real["answers"][name], simulated["answers"][name], f"{name}:")
    for part in ("metrics", "counters"):
        for name in dict.fromkeys([*real[part], *simulated[part]]):
            there, here = real[part].get(name, "absent"), simulated[part].get(name, "absent")
            yield from differences(there, here, f"{name}:")
    yield from _event_differences(real["events"], simulated["events"])


def _event_differences(real: Any, simulated: Any) -> Iterator[Difference]:
    """Batches case by case; numbers must go up by one from batch to batch on both sides."""
    for name in dict.fromkeys([*real["batches"], *simulated["batches"]]):
        left, right = real["batches"].get(name, []), simulated["batches"].get(name, [])
        if len(left) != len(right):
            yield Difference(f"{name}: batches", _all_told(left), _all_told(right))
            continue
        for (_, payload), (_, other) in zip(left, right, strict=True):
            if payload != other:
                yield Difference(f"{name}: payload", _decoded(payload), _decoded(other))
    yield from differences(_steps(real), _steps(simulated), "events: numbers")
    yield from differences(real["replay"], simulated["replay"], "events: replay")


def _steps(events: Any) -> str:
    """By how much the numbers go up."""
    numbers = [number for batches in events["batches"].values() for number, _ in batches]
    return ",".join(sorted({str(after - before) for before, after in pairwise(numbers)}))


def _all_told(batches: Iterable[Sequence[Any]]) -> str:
    return "; ".join(_decoded(payload) for _, payload in batches) or "none"


def _decoded(payload: str) -> str:
    return str(msgspec.msgpack.decode(bytes.fromhex(payload)))


def table(verdict: Verdict) -> str:
    """The verdict as text: faults one by one, allowed ones by rule, totals."""
    lines = [f"{count:5} {part}" for part, count in verdict.compared.items()]
    for rule, count in verdict.used().items():
        lines.append(f"{count:5} allowed  {rule.where}: {rule.reason}")
    for fault in verdict.faults:
        lines.append(f"differs  {fault.where}")
        lines += [f"    vllm  {fault.real}", f"    sim   {fault.simulated}"]
    lines.append(f"{len(verdict.faults)} differences that are not allowed")
    return "\n".join(lines)
