"""What scraping costs and how it fares: plain counters for whoever exports them."""

from collections import Counter
from dataclasses import dataclass, field


class ScrapeError(Exception):
    """A scrape that failed. `reason` is one of a few words, for a label."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class ScrapeStats:
    """Totals since the start; they only grow. `seconds` is waiting time, not CPU."""

    scrapes: int = 0
    seconds: float = 0.0
    page_bytes: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """By reason: `timeout`, `refused` (no connection where requests go, too),
    `connect` (none where only metrics are), `status`, `redirect`, `size`, `page`, `fault`."""
