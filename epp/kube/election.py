"""An elector kept going: reads and writes the Lease until it is told to release it."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from structlog.typing import FilteringBoundLogger

from epp.domain.clock import Clock
from epp.kube.api import EVENTS, LEASES, Answer, Api, Unreachable
from epp.kube.lease import RELEASE_SECONDS, Elector, Read, Record, Rest, Write
from epp.kube.objects import micro_stamp_of

CONFLICT: Final = 409
MISSING: Final = 404
RELEASE_TRIES: Final = 3
SUCCESSOR_RETRIES: Final = 2.5
"""Retry periods in which a candidate that is alive takes a lease that is nobody's."""
SUCCESSOR_LOOKS: Final = 0.2

TakesOver: TypeAlias = Callable[[str], Awaitable[bool]]
"""Whether the holder of the lease, by its identity, can be reached in our place."""


class Election:
    """One candidate for the lease `name`; `changed` hears when it begins and ceases to lead.

    `clock` measures terms and must go on while the machine is suspended; `wall` only dates records.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        elector: Elector,
        changed: Callable[[bool], None],
        *,
        clock: Clock,
        wall: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        self.elector = elector
        self.transitions = 0
        """How often we have begun or ceased to lead."""
        self._api = api
        self._namespace = namespace
        self._name = name
        self._changed = changed
        self._clock = clock
        self._wall = wall
        self._log = log
        self._lease: dict[str, Any] = {}
        self._told = False
        self._alarm: asyncio.TimerHandle | None = None
        self._complaint = ""
        self._telling: set[asyncio.Task[None]] = set()

    @property
    def leading(self) -> bool:
        return self.elector.leading(self._clock())

    @property
    def another(self) -> str:
        """Who else held the lease when it was last seen; empty for nobody."""
        holder = self.elector.holder
        return "" if holder == self.elector.identity else holder

    async def run(self) -> None:
        """Take part until cancelled; being cancelled does not release the lease."""
        try:
            while True:
                await self._step()
        finally:
            if self._alarm is not None:
                self._alarm.cancel()

    async def _step(self) -> None:
        match self.elector.next(self._clock()):
            case Rest(seconds):
                await asyncio.sleep(min(seconds, 3600.0))
            case Read(timeout):
                await self._read(timeout)
            case Write() as ask:
                await self._write(ask)
        self._look()

    async def release(self, takes_over: TakesOver, seconds: float) -> None:
        """Lead no more, and let others begin at once. To be called when `run` has ended.

        Ends when another has taken over, or after `seconds`, but not before one that is alive can
        have taken the lease: who is on its way out serves until then what still comes.
        """
        if await self._release():
            least = SUCCESSOR_RETRIES * self.elector.terms.retry_period
            await self._wait_for_another(takes_over, max(seconds, least))
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def _wait_for_another(self, takes_over: TakesOver, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not (self.another and await takes_over(self.another)):
                    await asyncio.sleep(SUCCESSOR_LOOKS)
                    await self._read(RELEASE_SECONDS)
        except TimeoutError:
            self._log.info("nobody else has taken over yet", lease=self._name)

    async def _release(self) -> bool:
        """Whether the lease was ours and is nobody's now."""
        for _ in range(RELEASE_TRIES):
            ask = self.elector.release(self._clock())
            self._look()
            if ask is None:
                return False
            try:
                answer = await self._send(ask)
            except Unreachable as error:
                self._log.warning("lease not released", lease=self._name, why=str(error))
                return False
            if answer.good:
                self._log.info("lease released", lease=self._name)
            if answer.status != CONFLICT:
                return answer.good
            await self._read(ask.timeout)
        return False

    # -- calls ------------------------------------------------------------------------------------

    async def _read(self, timeout: float) -> None:
        path = LEASES.path(self._namespace, self._name)
        try:
            answer = await self._api.call("GET", path, timeout=timeout)
        except Unreachable as error:
            self._failed(str(error))
            return
        if answer.status == MISSING:
            self._lease = {}
            self.elector.found(None, self._clock())
        elif answer.good:
            try:
                self._lease = answer.json()
                record = record_of(self._lease)
            except Unreachable as error:
                self._failed(str(error))
                return
            self.elector.found(record, self._clock())
        else:
            await self._refused(answer)
            return
        self._fine()

    async def _write(self, ask: Write) -> None:
        try:
            answer = await self._send(ask)
            if answer.good:
                self._lease = answer.json()
                self.elector.written(record_of(self._lease).version, ask, self._clock())
                self._fine()
                return
        except Unreachable as error:
            self._failed(str(error))
            return
        if answer.status in (CONFLICT, MISSING):
            self.elector.conflicted(self._clock())
        else:
            await self._refused(answer)

    async def _send(self, ask: Write) -> Answer:
        body = lease_of(self._lease, self._name, ask, self.elector.terms.duration, self._wall())
        if ask.version is None:
            path = LEASES.path(self._namespace)
            return await self._api.call("POST", path, body=body, timeout=ask.timeout)
        path = LEASES.path(self._namespace, self._name)
        return await self._api.call("PUT", path, body=body, timeout=ask.timeout)

    async def _refused(self, answer: Answer) -> None:
        if answer.status == 401:
            await self._api.renew_credentials()
        self._failed(answer.failure.why)

    def _failed(self, why: str) -> None:
        self.elector.failed(self._clock())
        if not self._complaint:
            self._log.warning("lease out of reach", lease=self._name, why=why)
        self._complaint = why

    def _fine(self) -> None:
        if self._complaint:
            self._complaint = ""
            self._log.info("lease within reach again", lease=self._name)

    # -- who hears of it --------------------------------------------------------------------------

    def _look(self) -> None:
        """Tell of a change, and be woken when the term ends without another word."""
        now = self._clock()
        leads = self.elector.leading(now)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if leads:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(max(self.elector.leads_until - now, 0.001), self._look)
        if leads == self._told:
            return
        self._told = leads
        self.transitions += 1
        word = "became leader" if leads else "stopped leading"
        self._log.info(word, lease=self._name, identity=self.elector.identity)
        self._changed(leads)
        task = asyncio.ensure_future(self._tell(f"{self.elector.identity} {word}"))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, message: str) -> None:
        """Leave an event; nobody depends on it."""
        event = event_of(self._namespace, self._name, self._lease, message, self._wall())
        try:
            path = EVENTS.path(self._namespace)
            answer = await self._api.call("POST", path, body=event, timeout=2.0)
        except Unreachable as error:
            self._log.debug("no event", why=str(error))
            return
        if not answer.good:
            self._log.info("no event", why=answer.failure.why)


def record_of(lease: dict[str, Any]) -> Record:
    """What counts of a Lease. Raises `Unreachable` for what is none."""
    spec = lease.get("spec") or {}
    try:
        return Record(
            holder=spec.get("holderIdentity") or "",
            duration=float(spec.get("leaseDurationSeconds") or 0),
            transitions=int(spec.get("leaseTransitions") or 0),
            version=lease["metadata"]["resourceVersion"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unreachable("an answer that is no Lease") from error


def lease_of(
    before: dict[str, Any], name: str, ask: Write, duration: float, wall: float
) -> dict[str, Any]:
    """The Lease to write, with whatever others have put on the one before."""
    now = micro_stamp_of(wall)
    spec = dict(before.get("spec") or {})
    spec.update(
        holderIdentity=ask.holder,
        leaseDurationSeconds=math.ceil(duration) if ask.holder else 1,
        renewTime=now,
        leaseTransitions=ask.transitions,
    )
    if ask.acquires:
        spec["acquireTime"] = now
    metadata = {**before.get("metadata", {}), "name": name}
    if ask.version is None:
        metadata = {"name": name}
    else:
        metadata["resourceVersion"] = ask.version
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": spec,
    }


def event_of(
    namespace: str, name: str, lease: dict[str, Any], message: str, wall: float
) -> dict[str, Any]:
    """An event about the Lease, as other elected components leave it."""
    now = micro_stamp_of(wall)
    seconds = now.partition(".")[0] + "Z"
    about = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "namespace": namespace,
        "name": name,
        "uid": lease.get("metadata", {}).get("uid", ""),
    }
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{name}.{int(wall * 1e6):x}"[-253:], "namespace": namespace},
        "involvedObject": about,
        "reason": "LeaderElection",
        "message": message[:1024],
        "type": "Normal",
        "source": {"component": "epp"},
        "firstTimestamp": seconds,
        "lastTimestamp": seconds,
        "count": 1,
    }
