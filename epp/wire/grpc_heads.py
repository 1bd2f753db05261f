"""What the head of a request says to gRPC, and how the head and the end of an answer are written.

A head is read once and kept with its block: `Reading.of`. Everything here is pure.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final

from epp.wire.calls import Status
from epp.wire.headers import encoded

if TYPE_CHECKING:
    from epp.wire.calls import Metadata
    from epp.wire.headers import Fields, Head

_MAX_STATUS_MESSAGE: Final = 4_096

_CONTENT_TYPE = re.compile(rb"application/grpc(?:[+;].*)?", re.DOTALL)
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_METADATA_NAME = re.compile(r"[0-9a-z_.\-]+")
_METADATA_VALUE = re.compile(r"[\x20-\x7e]*")

_ANSWER_FIELDS: Final = ((b":status", b"200"), (b"content-type", b"application/grpc"))
# Answers that are always the same are encoded once: 0.1 us instead of 5 for each block.
ANSWER: Final = encoded(_ANSWER_FIELDS)
OK: Final = encoded(((b"grpc-status", b"0"),))
ACCEPTED: Final = ((b"grpc-accept-encoding", b"identity"),)


class Refusal(Exception):
    """A head that opens no call: an HTTP status of its own, or a gRPC status."""

    def __init__(
        self, message: str, *, http: int = 200, status: Status = Status.OK, fields: Fields = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.http = http
        self.status = status
        self.fields = fields


class Reading:
    """What a head says to gRPC; kept with the head, so a repeated block is read once."""

    __slots__ = ("metadata", "path", "refusal", "timeout")

    def __init__(self, head: Head) -> None:
        self.path = head.path.decode("utf-8")
        self.metadata: Metadata = ()
        self.timeout: float | None = None
        self.refusal: Refusal | None = None
        try:
            _check_head(head)
            self.timeout = _timeout_in(head.fields)
            self.metadata = _metadata_in(head.fields)
        except Refusal as refusal:
            self.refusal = refusal

    @classmethod
    def of(cls, head: Head) -> Reading:
        """The reading kept with this head, made at the first time of asking."""
        reading = head.reading
        if not isinstance(reading, Reading):
            reading = head.reading = cls(head)
        return reading


def _check_head(head: Head) -> None:
    fields = dict(head.fields)
    if not _CONTENT_TYPE.fullmatch(fields.get(b"content-type", b"")):
        raise Refusal("this port speaks gRPC: content-type application/grpc\n", http=415)
    if head.method != b"POST":
        raise Refusal("gRPC calls are POST requests\n", http=405)
    encoding = fields.get(b"grpc-encoding", b"identity")
    if encoding != b"identity":
        raise Refusal(
            "message encoding is not supported, send identity",
            status=Status.UNIMPLEMENTED,
            fields=ACCEPTED,
        )


def _timeout_in(fields: Fields) -> float | None:
    for name, value in fields:
        if name == b"grpc-timeout":
            match = _TIMEOUT.fullmatch(value)
            if match is None:
                raise Refusal(
                    "grpc-timeout must be one to eight digits and one of HMSmun",
                    status=Status.INTERNAL,
                )
            return int(match[1]) * _SECONDS[match[2]]
    return None


def _metadata_in(fields: Fields) -> Metadata:
    pairs: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if name.startswith(b"grpc-") or name in (b"content-type", b"te"):
            continue
        key = name.decode("ascii")
        if key.endswith("-bin"):
            pairs += [(key, _binary(key, piece)) for piece in value.split(b",")]
        else:
            pairs.append((key, value.decode("utf-8")))
    return tuple(pairs)


def _binary(name: str, text: bytes) -> bytes:
    """One base64 value, padded or not."""
    text = text.strip(b" ")
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise Refusal(f"metadata {name} is not base64", status=Status.INTERNAL) from None


def trailers(status: int, message: str, trailing: Metadata) -> bytes:
    fields = [(b"grpc-status", b"%d" % status)]
    if message:
        fields.append((b"grpc-message", percent_encoded(message[:_MAX_STATUS_MESSAGE])))
    fields += [_metadata_field(name, value) for name, value in trailing]
    return encoded(fields)


def _metadata_field(name: str, value: str | bytes) -> tuple[bytes, bytes]:
    if not _METADATA_NAME.fullmatch(name) or name.startswith("grpc-"):
        raise ValueError(f"metadata name {name!r}: use lower case letters, digits, - _ .")
    if name.endswith("-bin"):
        if not isinstance(value, bytes):
            raise ValueError(f"metadata {name} takes bytes")
        return name.encode(), base64.b64encode(value).rstrip(b"=")
    if not isinstance(value, str) or not _METADATA_VALUE.fullmatch(value):
        raise ValueError(f"metadata {name} takes printable ASCII text")
    return name.encode(), value.strip(" ").encode()


def percent_encoded(text: str) -> bytes:
    """A `grpc-message` value: UTF-8, everything but printable ASCII, and %, as %XX."""
    raw = text.encode("utf-8", "replace")
    value = b"".join(
        b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in raw
    )
    # A field value may not begin or end with a space (RFC 9113 section 8.2.1).
    if value[:1] == b" ":
        value = b"%20" + value[1:]
    return value[:-1] + b"%20" if value[-1:] == b" " else value
