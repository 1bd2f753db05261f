"""An Envoy configuration around the picker, for each way the two can speak.

Values in, a tree of plain values out; `envoy_config.py` prints it. What a request may ask of Envoy
is in `envoy_filters.py`, where it goes in `envoy_clusters.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

Tree: TypeAlias = dict[str, Any]
Request: TypeAlias = Literal["buffered", "duplex"]
Response: TypeAlias = Literal["full", "watch", "forget"]
Balancing: TypeAlias = Literal["override-host", "original-dst"]
Address: TypeAlias = tuple[str, int]
"""Host and port; a Unix socket is `unix:PATH` and port 0."""

API: Final = "type.googleapis.com/envoy"
LARGEST_WINDOW: Final = 2**31 - 1
SMALLEST_WINDOW: Final = 65_535
UNIX: Final = "unix:"


@dataclass(slots=True, frozen=True, kw_only=True)
class Gateway:
    """What differs from one Envoy in front of a picker to the next. Times in seconds."""

    request: Request = "buffered"
    response: Response = "watch"
    balancing: Balancing = "override-host"
    pickers: tuple[Address, ...] = (("127.0.0.1", 9002),)
    picker_tls: bool = True
    endpoints: tuple[Address, ...] = ()
    """The pool, address by address; `service` where this is empty."""
    service: Address | None = None
    """A headless service: each address its name resolves to is an endpoint."""
    fail_open: bool = True
    """Whether requests go on without a picker that cannot be reached."""
    trust_client_headers: bool = False
    """Whether clients may say their objective, fairness id, target model and latency goals."""
    listen: Address = ("0.0.0.0", 8081)
    admin: Address = ("127.0.0.1", 19000)
    body_bytes: int = 32 * 1024 * 1024
    message_timeout: float = 75.0
    """The longest wait for an answer of the picker: longer than a request may be queued there."""
    connect_timeout: float = 2.0


def typed(name: str, message: str, **fields: Any) -> Tree:
    """An extension: its name, and its configuration with the type Envoy knows it by."""
    return {"name": name, "typed_config": {"@type": f"{API}.{message}", **fields}}


def seconds(value: float) -> str:
    """A duration as protobuf writes it in JSON."""
    return f"{value:g}s"


def socket_address(address: Address) -> Tree:
    """An address as Envoy takes it in listeners, endpoints and the admin page."""
    host, port = address
    if host.startswith(UNIX):
        return {"pipe": {"path": host.removeprefix(UNIX)}}
    return {"socket_address": {"address": host, "port_value": port}}


def window(size: int) -> int:
    """`size` within what HTTP/2 allows for a window."""
    return max(SMALLEST_WINDOW, min(size, LARGEST_WINDOW))


def shown(tree: Mapping[str, Any]) -> Tree:
    """`tree` without the fields that are None."""
    return {key: value for key, value in tree.items() if value is not None}
