"""Follows the engines of all endpoints: who is dialled, who is asked for a replay, what time does.

Everything runs on the loop's thread; the pump sees to it that no pick waits for events.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

import zmq

from epp.datastore.residency import Residency
from epp.domain.clock import Clock
from epp.domain.endpoint import Endpoint, join_address, split_address
from epp.kvevents.pump import Pump
from epp.kvevents.settings import FollowSettings
from epp.kvevents.snapshot import Remembered, restore
from epp.kvevents.sockets import Replay, Subscription
from epp.kvevents.source import Source, SourceStatus, identity
from epp.kvevents.stats import Counts

TICK: Final = 0.05
"""Seconds between looks at the clock."""
SWEPT_A_TICK: Final = 2_000
MOST_SOCKETS: Final = 16_384
"""Three for each endpoint that is dialled; ZeroMQ's own limit ends at 341 of them."""


class Follower:
    """`open`, then `follow` as often as the endpoints change, `run` beside it, `close` at last."""

    def __init__(
        self,
        residency: Residency,
        settings: FollowSettings,
        clock: Clock,
        log: Any,
        remembered: Mapping[str, Remembered] | None = None,
    ) -> None:
        self.counts = Counts()
        self.sources: dict[str, Source] = {}
        self.bound = ""
        """Where engines may dial, with its port; empty where nothing is bound."""
        self._residency = residency
        self._settings = settings
        self._clock = clock
        self._log = log
        self._remembered = dict(remembered or {})
        self._context: zmq.Context[Any] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, MOST_SOCKETS)
        self._pump: Pump | None = None
        self._dialled: dict[str, Subscription] = {}
        self._listening: Subscription | None = None
        self._by_host: dict[str, str] = {}
        self._waiting: deque[tuple[str, int]] = deque()
        self._replays: dict[str, tuple[Replay, list[float]]] = {}

    # -- from start to end ------------------------------------------------------------------------

    def open(self) -> None:
        """Ready to follow. Raises OSError when the address to bind cannot be had."""
        self._pump = Pump()
        if self._settings.bind:
            topic = self._settings.topic
            self._listening = Subscription(self._context, self._pump, topic, self._heard_by_topic)
            try:
                self.bound = self._listening.bind(self._settings.bind)
            except zmq.ZMQError as error:
                raise OSError(error.errno, f"{self._settings.bind}: {error}") from error

    async def run(self) -> None:
        """Let time pass for every source, until cancelled."""
        while True:
            await asyncio.sleep(TICK)
            self._tick(self._clock())

    def close(self) -> None:
        for key in tuple(self.sources):
            self._drop(key)
        if self._listening is not None:
            self._listening.close()
        self._context.term()

    def _tick(self, now: float) -> None:
        for source in tuple(self.sources.values()):
            if source.sequence.due <= now:
                source.tick()
        for key, (replay, progress) in tuple(self._replays.items()):
            self._watch(key, replay, progress, now)
        self._residency.sweep(SWEPT_A_TICK)

    # -- which endpoints --------------------------------------------------------------------------

    def follow(self, endpoints: Iterable[tuple[Endpoint, int]]) -> None:
        """Follow exactly these endpoints, each with its slot."""
        wanted = {identity(endpoint): (endpoint, slot) for endpoint, slot in endpoints}
        for key, source in tuple(self.sources.items()):
            if key not in wanted or self._moved(source, *wanted[key]):
                self._drop(key)
        self._by_host = {}
        for key, (endpoint, slot) in wanted.items():
            self._by_host.setdefault(endpoint.host, key)
            self._by_host[endpoint.address] = key
            if key not in self.sources:
                self._add(key, endpoint, slot)

    def _moved(self, source: Source, after: Endpoint, slot: int) -> bool:
        """Whether its events are to be had elsewhere from now on, or to be told of another slot.

        One that left and came back between two looks has a new slot; the old one is somebody's.
        """
        before, settings = source.endpoint, self._settings
        return (
            source.slot != slot
            or settings.events_address(before) != settings.events_address(after)
            or settings.replay_address(before) != settings.replay_address(after)
        )

    def _add(self, key: str, endpoint: Endpoint, slot: int) -> None:
        self._residency.forget(slot)
        source = self.sources[key] = Source(
            endpoint,
            slot,
            self._residency,
            self.counts,
            replays=bool(self._settings.replay_address(endpoint)),
            timing=self._settings.timing,
            ask=self._ask,
            clock=self._clock,
            log=self._log,
        )
        if (remembered := self._remembered.pop(key, None)) is not None:
            restore(remembered, self._residency, slot, source.sequence)
        if self._settings.connect:
            self._dial(key, source)

    def _dial(self, key: str, source: Source) -> None:
        address = self._settings.events_address(source.endpoint)
        try:
            self._dialled[key] = self._subscribed(source, address)
        except zmq.ZMQError as error:
            self._log.warning("kv_events_no_address", address=address, why=str(error))

    def _subscribed(self, source: Source, address: str) -> Subscription:
        assert self._pump is not None
        subscription = Subscription(
            self._context,
            self._pump,
            self._settings.topic,
            lambda _topic, seq, payload: source.heard(seq, payload),
            source.linked,
        )
        try:
            subscription.connect(address)
        except zmq.ZMQError:
            subscription.close()
            raise
        return subscription

    def _drop(self, key: str) -> None:
        source = self.sources.pop(key)
        self._residency.set_live(source.slot, False)
        # What an engine says while nobody listens is never heard: nothing of it may be kept.
        self._residency.forget(source.slot)
        if (subscription := self._dialled.pop(key, None)) is not None:
            subscription.close()
        if (running := self._replays.pop(key, None)) is not None:
            running[0].close()

    # -- engines that dial ------------------------------------------------------------------------

    def _heard_by_topic(self, topic: bytes, seq: int, payload: bytes) -> None:
        """The topic, `kv@<host or host:port>@<model>`, says whose batch it is."""
        key = self._by_host.get(host_of(topic))
        if key is None:
            self.counts.unknown_sources += 1
            return
        source = self.sources[key]
        if not source.linked_once:
            source.linked()
        source.heard(seq, payload)

    # -- replays ----------------------------------------------------------------------------------

    def _ask(self, source: Source, first: int) -> None:
        self._waiting.append((identity(source.endpoint), first))
        self._start_replays()

    def _start_replays(self) -> None:
        while self._waiting and len(self._replays) < self._settings.replays_at_once:
            key, first = self._waiting.popleft()
            if (source := self.sources.get(key)) is not None and key not in self._replays:
                self._start(key, source, first)

    def _start(self, key: str, source: Source, first: int) -> None:
        assert self._pump is not None
        try:
            replay = Replay(
                self._context, self._pump, source.replayed, lambda: self._finish(key, well=True)
            )
        except zmq.ZMQError:
            source.replay_failed()
            return
        self._replays[key] = replay, [0, self._clock()]
        try:
            replay.ask(self._settings.replay_address(source.endpoint), first)
        except zmq.ZMQError:
            self._finish(key, well=False)

    def _watch(self, key: str, replay: Replay, progress: list[float], now: float) -> None:
        """`progress`: replies seen, and when the last of them was new."""
        if replay.replies != progress[0]:
            progress[:] = replay.replies, now
        elif now - progress[1] > self._settings.replay_idle:
            self._finish(key, well=False)

    def _finish(self, key: str, *, well: bool) -> None:
        replay, _ = self._replays.pop(key)
        replay.close()
        source = self.sources[key]
        if well:
            source.replay_ended()
        else:
            source.replay_failed()
        self._start_replays()

    # -- for people -------------------------------------------------------------------------------

    def status(self) -> list[SourceStatus]:
        """Every followed endpoint."""
        address = self._settings.events_address if self._settings.connect else lambda _: ""
        return [source.status(address(source.endpoint)) for source in self.sources.values()]


def host_of(topic: bytes) -> str:
    """`host` or `host:port` of a topic; empty if it has none."""
    parts = topic.decode("utf-8", "replace").split("@", 2)
    if len(parts) < 2:
        return ""
    try:
        host, port = split_address(parts[1])
    except ValueError:
        return ""
    return host if port is None else join_address(host, port)
