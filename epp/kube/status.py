"""What the leader says of objectives and rewrites in their status: taken, or pointing nowhere."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from structlog.typing import FilteringBoundLogger

from epp.domain.clock import Clock
from epp.kube.api import ALPHA_POOLS, MERGE_PATCH, POOLS, Api, Kind, Unreachable
from epp.kube.objectives import PoolName
from epp.kube.objects import Condition, Objective, Rewrite, stamp_of

TAKEN: Final = "Accepted"
NOWHERE: Final = "PoolNotFound"
PACE_SECONDS: Final = 0.05
"""Between two writes: a new leader of 10,000 objects writes for minutes, and harms nobody."""
LOOK_SECONDS: Final = 60.0
GIVE_UP: Final = (403, 404, 405)
"""Answers that say the Role or the definition has no place for a status."""

Rated: TypeAlias = Objective | Rewrite


@dataclass(slots=True, frozen=True)
class Verdict:
    """What is to be said of one object."""

    kind: Kind
    item: Rated
    condition: Condition


def verdict_on(kind: Kind, item: Rated, pool_exists: bool) -> Verdict:
    """Whether the object's poolRef points at a pool that there is."""
    ref = item.pool_ref
    type_ = "Ready" if isinstance(item, Objective) else "Accepted"
    reason, word = (TAKEN, "is served") if pool_exists else (NOWHERE, "does not exist")
    condition = Condition(
        type=type_,
        status="True" if pool_exists else "False",
        reason=reason,
        message=f"{ref.kind} {ref.name} of {ref.group} {word}",
        observed_generation=item.metadata.generation,
    )
    return Verdict(kind, item, condition)


def is_said(verdict: Verdict) -> bool:
    """Whether the object's status says so already, whenever that was written."""
    wanted = verdict.condition
    return any(
        (one.type, one.status, one.reason, one.message, one.observed_generation)
        == (wanted.type, wanted.status, wanted.reason, wanted.message, wanted.observed_generation)
        for one in verdict.item.status.conditions or ()
    )


def patch_of(verdict: Verdict, wall: float) -> dict[str, Any]:
    """The merge patch of the status: other conditions stay; a time changes with the status only."""
    wanted, before = verdict.condition, verdict.item.status.conditions or ()
    same = next((one for one in before if one.type == wanted.type), None)
    since = same.last_transition_time if same and same.status == wanted.status else None
    kept = [dict_of(one, one.last_transition_time) for one in before if one.type != wanted.type]
    return {
        "metadata": {"resourceVersion": verdict.item.metadata.resource_version},
        "status": {"conditions": [*kept, dict_of(wanted, since or stamp_of(wall))]},
    }


def dict_of(condition: Condition, since: str | None) -> dict[str, Any]:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": condition.observed_generation,
        "lastTransitionTime": since,
    }


@dataclass(slots=True, frozen=True)
class Sight:
    """What the writer may look at, whenever it asks."""

    leading: Callable[[], bool]
    items: Callable[[], Iterable[tuple[Kind, Rated]]]
    pool: PoolName
    pool_exists: Callable[[], bool]


class StatusWriter:
    """Writes verdicts while it leads; what the Role does not allow is left out quietly."""

    def __init__(
        self, api: Api, namespace: str, sight: Sight, *, wall: Clock, log: FilteringBoundLogger
    ) -> None:
        self.written = 0
        self._api = api
        self._namespace = namespace
        self._sight = sight
        self._wall = wall
        self._log = log
        self._now = asyncio.Event()
        self._left_out: set[Kind] = set()

    def look(self) -> None:
        """Objects, the pool or leadership have changed."""
        self._now.set()

    async def run(self) -> None:
        """Write what is not yet said, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._now.wait()
            except TimeoutError:
                pass
            self._now.clear()
            try:
                await self._round()
            except Unreachable as error:
                self._log.debug("status not written", why=str(error))

    async def _round(self) -> None:
        pools: dict[str, frozenset[str] | None] = {}
        for kind, item in list(self._sight.items()):
            if not self._sight.leading():
                return
            if kind in self._left_out:
                continue
            verdict = await self._judge(kind, item, pools)
            if verdict is not None and not is_said(verdict):
                await self._write(verdict)
                await asyncio.sleep(PACE_SECONDS)

    async def _judge(
        self, kind: Kind, item: Rated, pools: dict[str, frozenset[str] | None]
    ) -> Verdict | None:
        """None where it is for another picker to say: the pool exists and is not ours."""
        ref = item.pool_ref
        if self._sight.pool.meant_by(ref):
            return verdict_on(kind, item, self._sight.pool_exists())
        if ref.group not in pools:
            pools[ref.group] = await self._pools(ref.group)
        names = pools[ref.group]
        if names is None or ref.name in names:
            return None
        return verdict_on(kind, item, pool_exists=False)

    async def _pools(self, group: str) -> frozenset[str] | None:
        """The pools of a group in the namespace; None where they are not known."""
        kind = next((kind for kind in (POOLS, ALPHA_POOLS) if kind.group == group), None)
        if kind is None:
            return None
        answer = await self._api.call("GET", kind.path(self._namespace))
        if not answer.good:
            return frozenset() if answer.status == 404 else None
        items = answer.json().get("items") or []
        return frozenset(item["metadata"]["name"] for item in items)

    async def _write(self, verdict: Verdict) -> None:
        path = verdict.kind.path(self._namespace, verdict.item.metadata.name, "status")
        patch = patch_of(verdict, self._wall())
        answer = await self._api.call("PATCH", path, body=patch, content_type=MERGE_PATCH)
        if answer.good:
            self.written += 1
        elif answer.status in GIVE_UP and not await self._is_gone(verdict):
            self._left_out.add(verdict.kind)
            why = answer.failure.why
            self._log.info("status is left out", kind=str(verdict.kind), why=why)

    async def _is_gone(self, verdict: Verdict) -> bool:
        """A 404 may be the object's own: then the others still want their status."""
        path = verdict.kind.path(self._namespace, verdict.item.metadata.name)
        return (await self._api.call("GET", path)).status == 404
