"""Asleep, waking, starting, awake: when may the replica compute?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vllm_sim.engine.profile import ReplicaProfile

Tag = Literal["weights", "kv_cache", "scheduling"]
TAGS: tuple[Tag, ...] = ("weights", "kv_cache", "scheduling")


class Power:
    """Level 0 stops scheduling only, 1 offloads the weights, 2 discards them."""

    def __init__(self, profile: ReplicaProfile, ready_at: float = 0.0) -> None:
        self._wake_s = {0: 0.0, 1: profile.wake_level_1_s, 2: profile.wake_level_2_s}
        self._asleep: set[Tag] = set()
        self.level = -1
        self.ready_at = ready_at

    @property
    def sleeping(self) -> bool:
        """True until every tag is awake again."""
        return bool(self._asleep)

    def sleep(self, level: int) -> None:
        if level not in self._wake_s:
            raise ValueError("level must be 0, 1 or 2")
        self.level = max(level, self.level)
        self._asleep.update(TAGS if level else ("scheduling",))

    def wake(self, tags: Iterable[Tag], now: float) -> None:
        """Wakes the tags (none: all of them); loading weights takes the profile's time."""
        chosen = set(tags) or set(TAGS)
        unknown = chosen - set(TAGS)
        if unknown:
            raise ValueError(f"tags must be among {', '.join(TAGS)}")
        if "weights" in chosen & self._asleep:
            self.ready_at = max(self.ready_at, now + self._wake_s[self.level])
        self._asleep -= chosen
        if self._asleep == {"scheduling"} and chosen & {"weights", "kv_cache"}:
            self._asleep.clear()
        if not self._asleep:
            self.level = -1

    def awake_at(self, now: float) -> float | None:
        """The earliest time from `now` at which it may compute; None while it sleeps."""
        return None if self._asleep else max(now, self.ready_at)
