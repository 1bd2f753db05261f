"""Client headers that are not to be read: nobody behind this reader sees them."""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from epp.domain.headers import CLIENT_HEADERS
from epp.domain.path import Intake
from epp.domain.request import Request


class Reader(Protocol):
    def read(self, intake: Intake, request_id: str, now: float) -> Request: ...


class BelievingReader:
    """Shows `reader` requests without the headers `unread`, names in lower case."""

    __slots__ = ("_reader", "_unread")

    def __init__(self, reader: Reader, unread: frozenset[str]) -> None:
        self._reader = reader
        self._unread = unread

    def read(self, intake: Intake, request_id: str, now: float) -> Request:
        """What `reader` makes of it; raises what it raises."""
        headers = intake.head.headers
        if not self._unread.isdisjoint(headers):
            kept = {name: value for name, value in headers.items() if name not in self._unread}
            head = msgspec.structs.replace(intake.head, headers=kept)
            intake = msgspec.structs.replace(intake, head=head)
        return self._reader.read(intake, request_id, now)


def believing(reader: Reader, read: Iterable[str]) -> Reader:
    """`reader` for requests of which only the groups `read` of `CLIENT_HEADERS` are believed."""
    left_out = CLIENT_HEADERS.keys() - set(read)
    unread = frozenset(name for group in left_out for name in CLIENT_HEADERS[group])
    return BelievingReader(reader, unread) if unread else reader
