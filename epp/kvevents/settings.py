"""Where events come from and how patiently they are followed."""

from dataclasses import dataclass, field
from typing import Final

from epp.domain.endpoint import Endpoint, join_address
from epp.kvevents.sequence import Timing

PORT_LABEL: Final = "llm-d.ai/kv-events-port"
REPLAY_PORT_LABEL: Final = "llm-d.ai/kv-events-replay-port"
"""Labels of an endpoint whose engine publishes on a port of its own."""


@dataclass(slots=True, frozen=True, kw_only=True)
class FollowSettings:
    """`connect`: dial every endpoint. `bind`: a ZMQ address that engines dial, empty for none."""

    connect: bool = True
    bind: str = ""
    port: int = 5557
    """Of rank 0; rank `r` publishes on `port + r`."""
    replay_port: int | None = None
    """Of rank 0; None where engines do not replay."""
    topic: bytes = b""
    """Only topics that begin so are heard."""
    timing: Timing = field(default_factory=Timing)
    replay_idle: float = 2.0
    """Seconds without an answer after which a replay has failed."""
    replays_at_once: int = 8

    def events_address(self, endpoint: Endpoint) -> str:
        """Where the endpoint's engine publishes."""
        return "tcp://" + join_address(endpoint.host, ranked(endpoint, PORT_LABEL, self.port) or 0)

    def replay_address(self, endpoint: Endpoint) -> str:
        """Where the endpoint's engine replays; empty where it does not."""
        port = ranked(endpoint, REPLAY_PORT_LABEL, self.replay_port)
        return "tcp://" + join_address(endpoint.host, port) if port else ""


def ranked(endpoint: Endpoint, label: str, port: int | None) -> int | None:
    """The port on the endpoint's label, else `port` for its rank."""
    text = endpoint.labels.get(label, "")
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    return None if port is None else port + endpoint.rank
