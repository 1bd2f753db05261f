"""What a picker has of its cluster: the pool's endpoints, objectives, rewrites, and who leads.

Built only when a pool or a selector is named; the client library is imported when it starts.
"""

import asyncio
import random
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from structlog.typing import FilteringBoundLogger

from epp.app.background import Work
from epp.config.options import RunOptions
from epp.datastore import Datastore
from epp.domain.clock import Clock
from epp.domain.endpoint import Endpoint
from epp.errors import ConfigError
from epp.kube.api import ALPHA_POOLS, OBJECTIVES, POOLS, REWRITES, Api, Kind
from epp.kube.election import Election
from epp.kube.endpoints import Wanted, parse_selector
from epp.kube.follow import Follower
from epp.kube.handover import Succession, takes_over
from epp.kube.label import LeaderLabel
from epp.kube.lease import Elector, Terms
from epp.kube.objectives import ObjectiveBook, PoolName
from epp.kube.objects import Objective, Rewrite
from epp.kube.pool import PoolWatch, decoder_of
from epp.kube.reflector import Pace, Reflector
from epp.kube.reviews import MetricsReaders
from epp.kube.rewrites import RewriteBook
from epp.kube.status import Rated, Sight, StatusWriter
from epp.observe.cluster_metrics import ClusterState, WatchState
from epp.wire.readiness import Readiness

Own: TypeAlias = Callable[[Work, str], None]
"""Takes a task by its work and its name."""

SOURCE: Final = "pool"
SYNCED: Final = "synced"
POOL: Final = "pool"
LEADING: Final = "leading"
OF_DEPLOYMENT: Final = re.compile(r"(.+)-[a-z0-9]+-[a-z0-9]{5}")
"""The name of a Deployment's pod."""
UNDECIDED: Final = 503
HANDOVER_SECONDS: Final = 20.0
"""Who follows is known to be Ready after a retry of the election and a period of its probe."""


def in_cluster(options: RunOptions) -> bool:
    """Whether endpoints come from a cluster."""
    return bool(options.pool_name or options.endpoint_selector)


def conditions_of(options: RunOptions) -> tuple[str, ...]:
    """What must hold before new work should come here."""
    if not in_cluster(options):
        return (SYNCED,)
    follows_lease = options.ha_enable_leader_election and not options.leader_label
    return (POOL, SYNCED, LEADING) if follows_lease else (POOL, SYNCED)


def pool_name_of(options: RunOptions) -> str:
    """What the pool is called; without one, the Deployment that this pod belongs to."""
    if options.pool_name or not options.endpoint_selector:
        return options.pool_name or "file"
    own = OF_DEPLOYMENT.fullmatch(options.pod_name)
    return own[1] if own else options.pod_name or "standalone"


def suspended_too() -> float:
    """Monotonic seconds that go on while the machine is suspended, where there is such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Cluster:
    """From `start` to `stop`. Raises ConfigError for options that cannot be carried out."""

    def __init__(
        self,
        options: RunOptions,
        store: Datastore,
        readiness: Readiness,
        log: FilteringBoundLogger,
        *,
        clock: Clock,
        let_go: Callable[[], None],
    ) -> None:
        """`let_go` ends gateways' connections gently: another picker is to be asked."""
        self._options = options
        self._let_go = let_go
        self._store = store
        self._readiness = readiness
        self._log = log
        self._clock = clock
        self._random = random.Random()
        self._pool = PoolName(pool_name_of(options), options.pool_group)
        self.objectives = ObjectiveBook(self._pool)
        self.rewrites = RewriteBook(self._pool, self._random)
        self._fixed = fixed_of(options)
        self._terms = Terms(
            options.leader_elect_lease_duration,
            options.leader_elect_renew_deadline,
            options.leader_elect_retry_period,
        )
        self._label = label_of(options, self._pool.name)
        self._api: Any = None
        self._watch: PoolWatch | None = None
        self._books: dict[Kind, Follower[Any]] = {}
        self._election: Election | None = None
        self._electing: asyncio.Task[None] | None = None
        self._succession: Succession | None = None
        self._marker: LeaderLabel | None = None
        self._status: StatusWriter | None = None
        self._readers: MetricsReaders | None = None
        self._pods_why = "not yet"
        self._said: dict[str, str] = {}

    # -- start, stop ------------------------------------------------------------------------------

    async def start(self, own: Own) -> None:
        """Begin to follow; `own` takes each task. Raises ConfigError without access to a cluster.

        Whether anything is there yet is for readiness to say.
        """
        from epp.kube.client import connect

        self._api = await connect(self._log)
        self._watch = PoolWatch(
            self._follower, self._pool_kind(), self._pool.name, self, self._fixed
        )
        self._books = {
            **{kind: self._follower(kind, Objective, self._rank) for kind in OBJECTIVES},
            **{kind: self._follower(kind, Rewrite, self._rewrite) for kind in REWRITES},
        }
        own(self._watch.run, "pool")
        for kind, follower in self._books.items():
            own(follower.run, str(kind))
        if self._options.ha_enable_leader_election:
            self._elect(own)
        sight = Sight(self._leads, self._rated, self._pool, lambda: self._exists)
        namespace = self._options.pool_namespace
        self._status = StatusWriter(self._api, namespace, sight, wall=time.time, log=self._log)
        own(self._status.run, "status")
        self._readers = MetricsReaders(self._api, clock=self._clock, log=self._log)

    def _elect(self, own: Own) -> None:
        options, namespace = self._options, self._options.pool_namespace
        pod = options.pod_name or socket.gethostname()
        elector = Elector(f"{pod}_{uuid.uuid4()}", self._terms, self._random)
        self._election = Election(
            self._api,
            namespace,
            lease_name_of(options, self._pool.name),
            elector,
            self._led,
            clock=suspended_too,
            wall=time.time,
            log=self._log,
        )
        self._electing = electing = asyncio.ensure_future(self._election.run())
        own(lambda: waited(electing), "election")
        another = self._election
        self._succession = Succession(
            self._leads, lambda: another.another, self._takes_over, self._pass_on
        )
        own(self._succession.run, "succession")
        if self._label is not None:
            self._marker = LeaderLabel(
                self._api, namespace, pod, self._label, self._leads, self._log
            )
            own(self._marker.run, "leader label")

    async def retire(self) -> None:
        """Lead no more; to be called when this picker is no longer ready."""
        if self._electing is not None and self._election is not None:
            self._electing.cancel()
            await asyncio.gather(self._electing, return_exceptions=True)
            handover = min(HANDOVER_SECONDS, self._options.drain_timeout / 2)
            await self._election.release(self._takes_over, handover)

    async def _takes_over(self, holder: str) -> bool:
        """Whether who leads now gets what came here: by its label, else once it is Ready."""
        if self._label is not None:
            return True
        return await takes_over(self._api, self._options.pool_namespace, holder)

    async def stop(self) -> None:
        """Close connections; tasks have ended by then."""
        if self._api is not None:
            await self._api.close()

    async def authorize(self, headers: Mapping[str, str]) -> int:
        """Whether somebody may read /metrics: 200, or the status to refuse with."""
        return await self._readers(headers) if self._readers is not None else UNDECIDED

    # -- parts ------------------------------------------------------------------------------------

    def _pool_kind(self) -> Kind:
        return next(
            (kind for kind in (POOLS, ALPHA_POOLS) if kind.group == self._pool.group),
            Kind(self._pool.group, POOLS.version, POOLS.plural),
        )

    def _follower(
        self,
        kind: Kind,
        of: type[Any],
        changed: Callable[[], None],
        selection: Mapping[str, str] | None = None,
    ) -> Follower[Any]:
        api: Api = self._api
        path = kind.path(self._options.pool_namespace)
        reflector = Reflector(decoder_of(of), self._random, Pace(), selection)
        return Follower(api, path, reflector, changed, clock=self._clock, log=self._log)

    # -- what is heard ----------------------------------------------------------------------------

    def pool(self, why: str) -> None:
        """`Hears`: the pool is there, or why not."""
        self._say(POOL, why)
        self._look_at_status()

    def pods(self, why: str) -> None:
        """`Hears`: its pods are known, or why not."""
        self._pods_why = why
        self._say_synced()

    def endpoints(self, endpoints: list[Endpoint]) -> None:
        """`Hears`: the pool's endpoints."""
        self._store.set_endpoints(SOURCE, endpoints)

    def _rank(self) -> None:
        self.objectives.replace(*(self._known(kind) for kind in OBJECTIVES))
        self._say_synced()
        self._look_at_status()

    def _rewrite(self) -> None:
        self.rewrites.replace(*(self._known(kind) for kind in REWRITES))
        self._say_synced()
        self._look_at_status()

    def _known(self, kind: Kind) -> list[Any]:
        return list(self._books[kind].reflector.objects.values())

    def _say_synced(self) -> None:
        late = [str(kind) for kind, book in self._books.items() if not book.reflector.settled]
        self._say(
            SYNCED, self._pods_why or (f"no answer yet for {', '.join(late)}" if late else "")
        )

    def _say(self, condition: str, why: str) -> None:
        if why != self._said.get(condition):
            self._said[condition] = why
            self._log.info("condition of readiness", condition=condition, missing=why)
        if why:
            self._readiness.unmet(condition, why)
        else:
            self._readiness.met(condition)

    # -- leading ----------------------------------------------------------------------------------

    def _pass_on(self) -> None:
        self._log.info("another picker leads: connections are let go")
        self._let_go()

    def _led(self, leads: bool) -> None:
        if self._succession is not None:
            self._succession.led(leads)
        if self._marker is None:
            self._say(LEADING, "" if leads else "another picker leads")
        else:
            self._marker.look()
        self._look_at_status()

    def _leads(self) -> bool:
        return self._election is None or self._election.leading

    @property
    def _exists(self) -> bool:
        return self._watch is not None and self._watch.exists

    def _look_at_status(self) -> None:
        if self._status is not None:
            self._status.look()

    def _rated(self) -> Iterator[tuple[Kind, Rated]]:
        for kind, book in self._books.items():
            for item in book.reflector.objects.values():
                yield kind, item

    # -- for people -------------------------------------------------------------------------------

    def state(self) -> ClusterState:
        """For metrics."""
        watched = dict(self._watch.reflectors) if self._watch is not None else {}
        watched |= {str(kind): book.reflector for kind, book in self._books.items()}
        election = self._election
        now = self._clock()
        return ClusterState(
            watches=tuple(state_of(kind, found, now) for kind, found in watched.items()),
            leading=election.leading if election is not None else None,
            transitions=election.transitions if election is not None else 0,
            status_writes=self._status.written if self._status is not None else 0,
            rewrites=self.rewrites.decisions,
        )


def state_of(kind: str, reflector: Reflector[Any], now: float) -> WatchState:
    tally = reflector.tally
    return WatchState(
        kind=kind,
        age=now - reflector.heard if reflector.heard is not None else None,
        objects=len(reflector.objects),
        events=tally.events,
        relists=dict(tally.relists),
        failures=dict(tally.failures),
        unreadable=tally.unreadable,
    )


def fixed_of(options: RunOptions) -> Wanted | None:
    """The pods to serve without a pool. Raises ConfigError for a selector that is none."""
    if not options.endpoint_selector:
        return None
    try:
        selector = parse_selector(options.endpoint_selector)
    except ValueError as error:
        raise ConfigError([f"--endpoint-selector: {error}"]) from error
    return Wanted(selector, options.endpoint_target_ports)


def label_of(options: RunOptions, pool: str) -> tuple[str, str] | None:
    """Name and value of the leader's label; the pool's name unless a value is given."""
    if not options.leader_label:
        return None
    name, _, value = options.leader_label.partition("=")
    return name, value or pool


def lease_name_of(options: RunOptions, pool: str) -> str:
    """The Lease that pickers of one pool share."""
    default = f"epp-{options.pool_namespace}-{pool}.llm-d.ai"
    return options.leader_elect_resource_name or default


async def waited(task: asyncio.Task[None]) -> None:
    """Ends with `task`; its being cancelled is no failure, its own failure is ours."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.cancelled():
            task.cancel()
            raise
