"""An endpoint: one address that answers requests, that is one port of one pod."""

from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import Final

import msgspec

ROLE_LABEL: Final = "llm-d.ai/role"
ENGINE_LABELS: Final = ("llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type")


def join_address(host: str, port: int) -> str:
    """`host:port`, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(text: str) -> tuple[str, int | None]:
    """`(host, port)` of `host`, `host:port`, `[v6]:port`, `[v6]` or bare `v6`; no port is None.

    An IPv6 host comes in its one canonical form, so that equal addresses are equal text. Raises
    ValueError when it is none, and when the port is not a number in 1..65535 or the host is empty.
    """
    text = text.strip()
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"unreadable address {text!r}")
        port_text = rest[1:] if rest else ""
    elif text.count(":") > 1:
        host, port_text = text, ""
    else:
        host, _, port_text = text.partition(":")
    if not host:
        raise ValueError(f"unreadable address {text!r}: no host")
    if ":" in host:
        host = _canonical(host, text)
    if not port_text:
        return host, None
    if not port_text.isascii() or not port_text.isdigit() or not 1 <= int(port_text) <= 65535:
        raise ValueError(f"unreadable address {text!r}: port must be 1..65535")
    return host, int(port_text)


def _canonical(host: str, text: str) -> str:
    try:
        return str(IPv6Address(host))
    except ValueError:
        raise ValueError(f"unreadable address {text!r}: no IPv6 address") from None


class Endpoint(msgspec.Struct, frozen=True):
    """One address of a pool, as a source (file, Kubernetes) describes it.

    `name` is unique in `namespace`; `uid` changes when a pod returns under an old name, so that
    nothing learned of the old one is believed of the new. `ready_since` is wall-clock seconds since
    the epoch (what Kubernetes reports), None where the source does not know. `ready` False keeps an
    endpoint's in-flight count (a terminating pod) while nothing new may go there.
    """

    name: str
    host: str
    port: int
    namespace: str = "default"
    labels: Mapping[str, str] = {}
    pod: str = ""
    rank: int = 0
    uid: str = ""
    ready: bool = True
    ready_since: float | None = None
    scrape_address: str = ""
    """`host:port` of /metrics where it differs from the endpoint's own; empty means its own."""

    @property
    def key(self) -> str:
        """Identity across updates: namespace, name and uid."""
        return f"{self.namespace}/{self.name}/{self.uid}"

    @property
    def address(self) -> str:
        """`host:port` as the destination header carries it; IPv6 in brackets."""
        return join_address(self.host, self.port)

    @property
    def metrics_address(self) -> str:
        """`host:port` where /metrics is served."""
        return self.scrape_address or self.address
