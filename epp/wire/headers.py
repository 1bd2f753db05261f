"""Header blocks (RFC 7541, RFC 9113 section 8): bytes become checked heads, answers become bytes.

Our dynamic table has size 0, so a block means the same each time it comes and may be remembered
by its bytes: but only once the peer has acknowledged that size, for its first blocks may still
refer to entries. What we write is never indexed, so it has no state at all.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from hpack import Decoder, HPACKError, OversizedHeaderListError

from epp.wire.frames import ConnectionFault, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from epp.wire.limits import Counters

Fields = tuple[tuple[bytes, bytes], ...]

# RFC 9110 section 5.6.2 tokens, without upper case as RFC 9113 section 8.2 demands.
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]|^[ \t]|[ \t]$")
_CONNECTION_FIELDS: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_PSEUDO_FIELDS: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
_REMEMBERED_OVERHEAD: Final = 1_024
_LARGEST_REMEMBERED: Final = 4_096


class MalformedHeaders(Exception):
    """A header block that decodes and breaks the rules of HTTP."""


class HeadersTooLarge(Exception):
    """A header list over the limit, on a connection whose table holds nothing to lose."""


class Head:
    """The head of a request: pseudo headers apart, other fields in wire order.

    `reading` is a place where the layer above keeps what it made of this head; it lives as long
    as the block is remembered.
    """

    __slots__ = ("authority", "content_length", "fields", "method", "path", "reading", "scheme")

    def __init__(self, pseudo: dict[bytes, bytes], fields: Fields, content_length: int) -> None:
        self.method = pseudo[b":method"]
        self.scheme = pseudo.get(b":scheme", b"")
        self.path = pseudo.get(b":path", b"")
        self.authority = pseudo.get(b":authority", b"")
        self.fields = fields
        self.content_length = content_length
        self.reading: object | None = None


class HeaderReader:
    """Reads the header blocks of one connection, in the order they came."""

    def __init__(self, max_list: int, memory: int, counters: Counters) -> None:
        self._decoder = Decoder(max_header_list_size=max_list)
        self._remembered: OrderedDict[bytes, Head] = OrderedDict()
        self._memory = memory
        self._used = 0
        self._counters = counters
        self._settled = False

    def acknowledged(self) -> None:
        """The peer knows that our table has size 0: from here on every block stands alone.

        RFC 9113 section 4.3.1 wants the next block to say so; clients that use no table at all
        forget it, and lose nothing by it. One that still refers to its table gets its error.
        """
        self._decoder.max_allowed_table_size = 0
        self._decoder.header_table_size = 0
        self._settled = True

    def request(self, block: bytes) -> Head:
        """Read a block that opens a request.

        Raises ConnectionFault when the block cannot be decoded, MalformedHeaders when it breaks
        the rules of a request, HeadersTooLarge when the list is over the limit.
        """
        if self._settled and (head := self._remembered.get(block)) is not None:
            self._remembered.move_to_end(block)
            self._counters.blocks_remembered += 1
            return head
        head = _request_head(self._decode(block))
        if self._settled:
            self._remember(block, head)
        return head

    def trailers(self, block: bytes) -> Fields:
        """Read a block that ends a request; raises what `request` does."""
        fields = self._decode(block)
        for name, value in fields:
            _check_field(name, value)
        return fields

    def _decode(self, block: bytes) -> Fields:
        self._counters.blocks_decoded += 1
        try:
            decoded = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError as error:
            self._counters.header_lists_too_large += 1
            if self._settled:
                raise HeadersTooLarge(str(error)) from None
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header list too large") from None
        except HPACKError:
            raise ConnectionFault(
                ErrorCode.COMPRESSION_ERROR, "header block cannot be decoded"
            ) from None
        return tuple((bytes(name), bytes(value)) for name, value in decoded)

    def _remember(self, block: bytes, head: Head) -> None:
        cost = _cost(block)
        if len(block) > _LARGEST_REMEMBERED or cost > self._memory:
            return
        self._remembered[block] = head
        self._used += cost
        while self._used > self._memory:
            oldest, _ = self._remembered.popitem(last=False)
            self._used -= _cost(oldest)


def _cost(block: bytes) -> int:
    # Text can be half again as long decoded, and is kept once as bytes and once as metadata.
    return _REMEMBERED_OVERHEAD + 5 * len(block)


def _request_head(decoded: Fields) -> Head:
    pseudo: dict[bytes, bytes] = {}
    count = 0
    for name, value in decoded:
        if name[:1] != b":":
            break
        if name in pseudo or name not in _PSEUDO_FIELDS:
            raise MalformedHeaders("pseudo header unknown or given twice")
        if _BAD_VALUE.search(value):
            raise MalformedHeaders("pseudo header with a forbidden character")
        pseudo[name] = value
        count += 1
    fields = decoded[count:]
    _check_pseudo(pseudo)
    content_length = -1
    for name, value in fields:
        _check_field(name, value)
        if name == b"content-length":
            content_length = _content_length(value, content_length)
    return Head(pseudo, fields, content_length)


def _check_pseudo(pseudo: dict[bytes, bytes]) -> None:
    if not pseudo.get(b":method"):
        raise MalformedHeaders("no :method")
    if pseudo[b":method"] == b"CONNECT":
        if b":path" in pseudo or b":scheme" in pseudo or not pseudo.get(b":authority"):
            raise MalformedHeaders("CONNECT takes :authority alone")
        return
    if not pseudo.get(b":scheme") or not pseudo.get(b":path"):
        raise MalformedHeaders("no :scheme or no :path")
    try:
        pseudo[b":path"].decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedHeaders(":path is not UTF-8") from None


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise MalformedHeaders("field name with a forbidden character, or a pseudo header late")
    if name in _CONNECTION_FIELDS or (name == b"te" and value != b"trailers"):
        raise MalformedHeaders("field that belongs to a connection")
    if _BAD_VALUE.search(value):
        raise MalformedHeaders("field value with a forbidden character")
    if not value.isascii():
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedHeaders("field value that is not UTF-8") from None


def _content_length(value: bytes, previous: int) -> int:
    if not value.isdigit() or len(value) > 18:
        raise MalformedHeaders("content-length is not a number")
    length = int(value)
    if previous not in (-1, length):
        raise MalformedHeaders("content-length given twice")
    return length


def encoded(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A header block of literals that are never added to the peer's table."""
    return b"".join(_literal(name, value) for name, value in fields)


def _literal(name: bytes, value: bytes) -> bytes:
    if name == b":status" and value == b"200":
        return b"\x88"
    return b"\x00" + _length(len(name)) + name + _length(len(value)) + value


def _length(size: int) -> bytes:
    """A string length, 7-bit prefix (RFC 7541 section 5.1), without Huffman coding."""
    if size < 127:
        return bytes((size,))
    rest = bytearray((127,))
    size -= 127
    while size >= 128:
        rest.append(size & 127 | 128)
        size >>= 7
    rest.append(size)
    return bytes(rest)
