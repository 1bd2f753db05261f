"""What the API server holds of one kind, followed: a core that says what to ask for next.

list (in pages) --> watch from there --> watch again from the last event --> ...
  ^                   | 410, an ERROR event, a line that cannot be read, a watch refused thrice
  '-------------------'

A new list replaces what was known as one step, so whatever vanished while nobody watched is gone
too. No I/O, no clock: the shell (`follow.py`) carries out `next` and reports what came of it.
"""

import enum
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from epp.kube.objects import UNREADABLE, Frame, Meta, Page, Status, Thing, decode_status

GONE: Final = 410
MISSING: Final = 404
FORBIDDEN: Final = 403


class HasMeta(Protocol):
    @property
    def metadata(self) -> Meta: ...


T = TypeVar("T", bound=HasMeta)
Read: TypeAlias = Callable[[bytes], T]
"""Decodes one object. Raises `msgspec.DecodeError`."""


@dataclass(slots=True, frozen=True)
class Pace:
    """How a reflector behaves over time, in seconds."""

    page: int = 500
    """Objects for each page of a list."""
    first_pause: float = 0.2
    longest_pause: float = 15.0
    absent_pause: float = 10.0
    """Between two looks for a kind that is not installed, or not allowed."""
    watch: float = 300.0
    """How long the server may keep one watch; up to a fifth more, so that not all end at once."""
    patience: int = 3
    """Refusals of a watch from one version before everything is listed anew."""
    lasting: float = 5.0
    """A watch that held so long was a good one, even if nothing happened."""


@dataclass(slots=True, frozen=True)
class List:
    """Ask for one page."""

    query: Mapping[str, str]


@dataclass(slots=True, frozen=True)
class Watch:
    """Open a watch and report each line; `seconds` is when the server will end it."""

    query: Mapping[str, str]
    seconds: float


@dataclass(slots=True, frozen=True)
class Wait:
    """Ask for nothing for so many seconds."""

    seconds: float


Step: TypeAlias = List | Watch | Wait


@dataclass(slots=True, frozen=True)
class Failure:
    """Why a call came to nothing; `status` 0 means that the server was not reached."""

    status: int
    why: str
    retry_after: float | None = None


class Heard(enum.Enum):
    """What one line of a watch came to."""

    CHANGED = "changed"
    NOTHING = "nothing"
    BROKEN = "broken"
    """Give the watch up and ask for the next step."""


class Trouble(enum.Enum):
    """Why there is nothing, or nothing new."""

    NONE = ""
    ABSENT = "not installed"
    FORBIDDEN = "not allowed"
    FAILING = "failing"


@dataclass(slots=True)
class Tally:
    """Counts since the start."""

    events: int = 0
    relists: Counter[str] = field(default_factory=Counter)
    """Lists after the first, by reason: expired, error, refused, vanished."""
    failures: Counter[str] = field(default_factory=Counter)
    """By HTTP status; `connection` where there was none."""
    unreadable: int = 0


@dataclass(slots=True, frozen=True)
class Seen(Generic[T]):
    """What an event says: the object, None when it is gone; `bad` is why it cannot be read."""

    meta: Meta
    item: T | None = None
    bad: str = ""


class Reflector(Generic[T]):
    """Follows the objects of one kind in one namespace, by name.

    `selection` are further query parameters: labelSelector, fieldSelector.
    """

    def __init__(
        self,
        read: Read[T],
        random_: random.Random,
        pace: Pace = Pace(),
        selection: Mapping[str, str] | None = None,
    ) -> None:
        self.objects: dict[str, T] = {}
        self.synced = False
        """Whether a whole list has come."""
        self.trouble = Trouble.NONE
        self.why = ""
        self.heard: float | None = None
        """When the server last said anything of this kind: a list, an event, a bookmark."""
        self.tally = Tally()
        self.unreadable: dict[str, str] = {}
        """Objects that are there and cannot be read, with the reason."""
        self._read = read
        self._random = random_
        self._pace = pace
        self._selection = dict(selection or {})
        self._version = ""
        self._continue = ""
        self._listing = True
        self._listed: dict[str, T] = {}
        self._listed_bad: dict[str, str] = {}
        self._whole = False
        self._only_lists = False
        self._refusals = 0
        self._failures = 0
        self._opened = 0.0
        self._pause_until = 0.0

    @property
    def settled(self) -> bool:
        """Whether it is known what there is, be it that the kind is missing or out of reach."""
        return self.synced or self.trouble in (Trouble.ABSENT, Trouble.FORBIDDEN)

    def next(self, now: float) -> Step:
        """What to do at `now`."""
        if now < self._pause_until:
            return Wait(self._pause_until - now)
        if self._listing:
            return List(self._list_query())
        self._opened = now
        seconds = self._pace.watch * self._random.uniform(1.0, 1.2)
        query = {
            **self._selection,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(int(seconds)),
        }
        return Watch(query, seconds)

    def _list_query(self) -> dict[str, str]:
        query = dict(self._selection)
        if not self._whole:
            query["limit"] = str(self._pace.page)
        if self._continue:
            query["continue"] = self._continue
        return query

    # -- what came of it --------------------------------------------------------------------------

    def page(self, body: bytes, now: float) -> bool:
        """A page has come; True when `objects` changed. An unreadable page is a failure."""
        try:
            page = _PAGE.decode(body)
            for raw in page.items or ():
                self._sort_in(raw)
        except UNREADABLE as error:
            return self.failed(Failure(200, f"unreadable list: {error}"), now)
        self.heard = now
        self._continue = page.metadata.continue_
        if self._continue:
            return False
        return self._complete(page.metadata.resource_version)

    def _sort_in(self, raw: msgspec.Raw) -> None:
        try:
            found = self._read(raw)
            self._listed[found.metadata.name] = found
        except msgspec.ValidationError as error:
            self._listed_bad[_THING.decode(raw).metadata.name] = str(error)

    def _complete(self, version: str) -> bool:
        changed = not self.synced or self.objects != self._listed
        self.objects, self._listed = self._listed, {}
        self.unreadable, self._listed_bad = self._listed_bad, {}
        self.tally.unreadable += len(self.unreadable)
        self._version = version
        self._listing, self._whole = False, False
        self.synced = True
        if not self._only_lists:
            self.opened()
        return changed

    def opened(self) -> None:
        """The server has begun to answer a watch."""
        self._only_lists = False
        self.trouble, self.why = Trouble.NONE, ""

    def line(self, line: bytes, now: float) -> Heard:
        """One line of the watch has come."""
        try:
            frame = _FRAME.decode(line)
            if frame.type == "ERROR":
                return self._told_off(decode_status(frame.object), now)
            seen = self._see(frame)
        except UNREADABLE as error:
            self._relist("error", f"unreadable event: {error}", now)
            return Heard.BROKEN
        if not seen.meta.resource_version:
            self._relist("error", "an event without a version", now)
            return Heard.BROKEN
        self.heard = now
        self._version = seen.meta.resource_version
        self._failures = self._refusals = 0
        if frame.type == "BOOKMARK":
            return Heard.NOTHING
        self.tally.events += 1
        return self._apply(seen)

    def _see(self, frame: Frame) -> "Seen[T]":
        if frame.type in ("BOOKMARK", "DELETED"):
            return Seen(_THING.decode(frame.object).metadata)
        try:
            found = self._read(frame.object)
        except msgspec.ValidationError as error:
            return Seen(_THING.decode(frame.object).metadata, bad=str(error))
        return Seen(found.metadata, found)

    def _apply(self, seen: "Seen[T]") -> Heard:
        name = seen.meta.name
        before = self.objects.get(name)
        if seen.bad:
            self.objects.pop(name, None)
            self.unreadable[name] = seen.bad
            self.tally.unreadable += 1
            return Heard.CHANGED
        was_bad = self.unreadable.pop(name, None) is not None
        if seen.item is None:
            self.objects.pop(name, None)
        else:
            self.objects[name] = seen.item
        return Heard.CHANGED if was_bad or seen.item != before else Heard.NOTHING

    def _told_off(self, status: Status, now: float) -> Heard:
        expired = status.code == GONE or status.reason in ("Expired", "Gone")
        self._relist("expired" if expired else "error", status.message or status.reason, now)
        return Heard.BROKEN

    def ended(self, now: float) -> None:
        """The server, or its silence, has ended the watch: go on from the last version."""
        if now - self._opened >= self._pace.lasting:
            self._failures = self._refusals = 0
            return
        self._pause(now)

    def failed(self, failure: Failure, now: float) -> bool:
        """A call was refused or got no answer; True when `objects` changed."""
        self.tally.failures[str(failure.status or "connection")] += 1
        if failure.status == GONE:
            self._relist("expired", failure.why, now)
            return False
        if failure.status == MISSING:
            return self._absent(failure.why, now)
        self._troubled(failure)
        if not self._listing and failure.status and self._worn_out(failure.status):
            self._relist("refused", failure.why, now)
        else:
            self._restart()
            self._pause(now, failure.retry_after)
        if failure.status == FORBIDDEN:
            self._pause_until = now + self._jitter(self._pace.absent_pause)
        return False

    def _troubled(self, failure: Failure) -> None:
        forbidden = failure.status == FORBIDDEN
        self.trouble = Trouble.FORBIDDEN if forbidden else Trouble.FAILING
        self.why = failure.why

    def _worn_out(self, status: int) -> bool:
        """Whether to list instead: the version is doubtful, or watching is not allowed at all."""
        self._refusals += 1
        self._only_lists = status == FORBIDDEN
        return status in (400, FORBIDDEN) or self._refusals >= self._pace.patience

    def _absent(self, why: str, now: float) -> bool:
        """The kind is not served: there is nothing of it. Look again, for it may be installed."""
        if not self._listing:
            self._relist("vanished", why, now)
            return False
        changed = bool(self.objects)
        self.objects = {}
        self._restart()
        self.trouble, self.why = Trouble.ABSENT, why
        self._pause_until = now + self._jitter(self._pace.absent_pause)
        return changed

    def _relist(self, reason: str, why: str, now: float) -> None:
        self.tally.relists[reason] += 1
        self.why = why
        # A list that expires between two of its pages is asked for as a whole the next time.
        self._whole = self._listing
        self._listing = True
        self._refusals = 0
        self._restart()
        self._pause(now)

    def _restart(self) -> None:
        self._continue = ""
        self._listed, self._listed_bad = {}, {}

    def _pause(self, now: float, least: float | None = None) -> None:
        pause = min(self._pace.first_pause * 2**self._failures, self._pace.longest_pause)
        self._failures = min(self._failures + 1, 16)
        self._pause_until = now + max(self._jitter(pause), least or 0.0)

    def _jitter(self, seconds: float) -> float:
        return seconds * self._random.uniform(0.5, 1.0)


_PAGE: Any = msgspec.json.Decoder(Page)
_FRAME: Any = msgspec.json.Decoder(Frame)
_THING: Any = msgspec.json.Decoder(Thing)
