"""Follows the engines' caches where the configuration has a producer of exact matches."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from structlog.typing import FilteringBoundLogger

from epp.admin import pages
from epp.app.live import LiveConfig
from epp.app.sources import only
from epp.datastore import Datastore
from epp.domain.clock import Clock
from epp.domain.endpoint import Endpoint
from epp.kvevents import snapshot
from epp.kvevents.settings import FollowSettings
from epp.kvevents.source import SourceStatus
from epp.kvevents.stats import Counts
from epp.observe.kv_metrics import KvState
from epp.plugins.producers.precise_params import PreciseParams
from epp.plugins.producers.precise_prefix import PrecisePrefixCacheProducer
from epp.plugins.producers.tokens import TokenProducer

if TYPE_CHECKING:
    from epp.kvevents.follower import Follower

LISTENED_TOPIC: Final = "kv@"
"""Where engines dial, their topic has to say who they are."""
LOOK_EVERY: Final = 1.0
SNAPSHOT_EVERY: Final = 60.0


class KvEvents:
    """One follower for the producer in force; another one when a reload changes what it follows."""

    def __init__(
        self, live: LiveConfig, store: Datastore, clock: Clock, log: FilteringBoundLogger
    ) -> None:
        self._live = live
        self._store = store
        self._clock = clock
        self._log = log
        self._changed = asyncio.Event()
        self._follower: Follower | None = None
        self._followed: tuple[Endpoint, ...] | None = None
        self._saved = clock()
        store.subscribe(self._endpoints_changed)

    @property
    def producer(self) -> PrecisePrefixCacheProducer | None:
        """The plugin whose index is kept; None where none is configured."""
        return only(self._live.now.assembly, PrecisePrefixCacheProducer)

    @property
    def counts(self) -> Counts:
        """What became of the events so far."""
        return self._follower.counts if self._follower else Counts()

    def status(self) -> Sequence[SourceStatus]:
        """Every followed endpoint; none where nothing is followed."""
        return self._follower.status() if self._follower else ()

    def page(self) -> pages.KvEventsPage:
        """Who is followed, and how well predictions came true."""
        producer = self.producer
        if producer is None:
            return pages.KvEventsPage()
        sizes = {row["name"]: row["block_size"] for row in self._store.describe()}
        return pages.KvEventsPage(
            configured=True,
            endpoints=tuple(row_of(s, sizes.get(s.endpoint, 0)) for s in self.status()),
            counts={name: n for name, n in asdict(self.counts).items() if isinstance(n, int)},
            tokens_by=dict(producer.served),
            rendering=self._rendering_trouble(),
            compared=tuple(producer.compared),
        )

    def _rendering_trouble(self) -> str:
        tokens = only(self._live.now.assembly, TokenProducer)
        return tokens.renderer.trouble if tokens is not None and tokens.renderer else ""

    def state(self) -> KvState | None:
        """The same for the metrics; None where nothing is followed."""
        producer = self.producer
        if producer is None:
            return None
        status = self.status()
        return KvState(
            counts={name: n for name, n in asdict(self.counts).items() if isinstance(n, int)},
            replays=self.counts.replays,
            tokens_by=producer.served,
            followed=len(status),
            live=sum(one.live for one in status),
            blocks=len(producer.residency),
        )

    async def run(self) -> None:
        """Follow what the configuration in force asks for, until cancelled."""
        while True:
            if (producer := self.producer) is None:
                await asyncio.sleep(LOOK_EVERY)
            else:
                await self._follow(producer)

    async def _follow(self, producer: PrecisePrefixCacheProducer) -> None:
        """Until the producer's index or parameters are other ones."""
        params = producer.params
        try:
            follower = self._opened(producer)
        except OSError as error:
            self._log.error("kv_events_cannot_listen", why=str(error))
            await asyncio.sleep(LOOK_EVERY)
            return
        self._follower, self._followed = follower, None
        ticking = asyncio.create_task(follower.run(), name="kv events clock")
        try:
            while not ticking.done():
                now = self.producer
                if now is None or now.residency is not producer.residency or now.params != params:
                    break
                await self._look(follower, producer)
        finally:
            ticking.cancel()
            (ended,) = await asyncio.gather(ticking, return_exceptions=True)
            if isinstance(ended, Exception):
                self._log.error("kv_events_stopped", why=repr(ended))
            self._save(follower, producer)
            self._follower = None
            follower.close()

    def _opened(self, producer: PrecisePrefixCacheProducer) -> "Follower":
        # Here, so that a picker that follows nobody does not load ZeroMQ.
        from epp.kvevents.follower import Follower

        follower = Follower(
            producer.residency,
            follow_settings(producer.params),
            self._clock,
            self._log,
            self._remembered(producer),
        )
        try:
            follower.open()
        except OSError:
            follower.close()
            raise
        self._changed.set()
        return follower

    async def _look(self, follower: "Follower", producer: PrecisePrefixCacheProducer) -> None:
        try:
            async with asyncio.timeout(LOOK_EVERY):
                await self._changed.wait()
        except TimeoutError:
            if self._clock() - self._saved > SNAPSHOT_EVERY:
                await self._save_beside_picks(follower, producer)
        self._changed.clear()
        # The store tells of endpoints that come and go, not of those described anew.
        if self._followed is not self._store.endpoints:
            self._followed = self._store.endpoints
            follower.follow(with_slots(self._store))

    def _endpoints_changed(self, _came: Sequence[Endpoint], _went: Sequence[Endpoint]) -> None:
        self._changed.set()

    # -- snapshots --------------------------------------------------------------------------------

    def _remembered(
        self, producer: PrecisePrefixCacheProducer
    ) -> Mapping[str, snapshot.Remembered]:
        """What the last picker wrote, where it can be believed."""
        path = producer.params.snapshot_file
        if not path or len(producer.residency):
            return {}
        try:
            known = snapshot.read(Path(path).read_bytes(), time.time())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            self._log.warning("kv_events_snapshot_refused", path=path, why=str(error))
            return {}
        producer.residency.adapters.update(known.adapters)
        return {one.endpoint: one for one in known.endpoints}

    async def _save_beside_picks(
        self, follower: "Follower", producer: PrecisePrefixCacheProducer
    ) -> None:
        self._saved = self._clock()
        if path := producer.params.snapshot_file:
            sources = follower.sources.values()
            data = await snapshot.take_in_turns(producer.residency, sources, time.time())
            await asyncio.to_thread(self._put, path, data)

    def _save(self, follower: "Follower", producer: PrecisePrefixCacheProducer) -> None:
        """At the end, when nobody is picked any more."""
        if path := producer.params.snapshot_file:
            sources = follower.sources.values()
            self._put(path, snapshot.take(producer.residency, sources, time.time()))

    def _put(self, path: str, data: bytes) -> None:
        try:
            snapshot.write(path, data)
        except OSError as error:
            self._log.warning("kv_events_snapshot_not_written", path=path, why=str(error))


def row_of(told: SourceStatus, engine_block_tokens: int) -> pages.FollowedRow:
    return pages.FollowedRow(
        endpoint=told.endpoint,
        events_address=told.address,
        linked=told.linked,
        live=told.live,
        replays=told.replays,
        next=told.next,
        age=told.age,
        blocks=told.blocks,
        block_tokens=told.block_tokens,
        engine_block_tokens=engine_block_tokens,
        resets=told.resets,
    )


def follow_settings(params: PreciseParams) -> FollowSettings:
    """Where events come from, as the producer's parameters say."""
    events = params.kv_events_config
    ports = events.pod_discovery_config
    topic = events.topic_filter
    if topic is None:
        topic = "" if events.connects else LISTENED_TOPIC
    return FollowSettings(
        connect=events.connects,
        bind=events.zmq_endpoint,
        port=ports.socket_port,
        replay_port=ports.replay_socket_port,
        topic=topic.encode(),
    )


def with_slots(store: Datastore) -> list[tuple[Endpoint, int]]:
    """Every known endpoint with its slot."""
    rows = store.describe()
    return [(endpoint, row["slot"]) for endpoint, row in zip(store.endpoints, rows, strict=True)]
