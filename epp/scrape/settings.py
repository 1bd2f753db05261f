"""How often, how long, how much: every constant of scraping, in one place."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True, kw_only=True)
class ScrapeSettings:
    """Times in seconds."""

    busy: float = 0.05
    """The interval of an endpoint with requests, as long as there are few such endpoints."""
    idle: float = 2.0
    """The interval of an endpoint without requests, reached step by step."""
    growth: float = 1.5
    """How much longer each next interval of an idle endpoint is than the one before."""
    most_per_second: float = 500.0
    """Scrapes a second of all busy endpoints together: 100 of them are asked every 200 ms."""
    deadline: float = 1.0
    """A scrape that takes longer has failed."""
    failing: float = 5.0
    """The interval an endpoint that keeps failing backs off to."""
    jitter: float = 0.1
    """Each wait is longer or shorter by up to this share, at random."""
    spread: float = 0.05
    """First scrapes, and those after an idle time, are spread over this long."""


@dataclass(slots=True, frozen=True, kw_only=True)
class FetchSettings:
    """Where metrics are and how they are asked for (`metrics-data-source`)."""

    scheme: str = "http"
    path: str = "/metrics"
    port: int | None = None
    """In place of the endpoint's own; None for that."""
    insecure_skip_verify: bool = True
    ca_cert_path: str = ""
    client_cert_path: str = ""
    client_key_path: str = ""
    max_bytes: int = 8 * 1024 * 1024
    """A longer page is a failure."""

    def __post_init__(self) -> None:
        if self.scheme not in ("http", "https"):
            raise ValueError(f"scheme must be http or https, not {self.scheme!r}")
        if not self.path.startswith("/"):
            raise ValueError(f"path must begin with /, not {self.path!r}")
        if not self.path.isascii() or not self.path.isprintable() or " " in self.path:
            raise ValueError(f"path must be printable ASCII without spaces, not {self.path!r}")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ValueError(f"port must be 1..65535, not {self.port}")
