"""How much the store believes and for how long: every constant of this room, in one place."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True, kw_only=True)
class StoreSettings:
    """Times in seconds, rates in tokens per second."""

    arrival_delay: float = 0.05
    """A dispatch may take this long to reach the engine: a scrape that began sooner missed it."""
    missed_scrapes: int = 3
    """So many missed scrapes of its own interval make an endpoint's gauges unknown."""
    stale_floor: float = 1.0
    """Gauges younger than this are believed whatever the interval: one slow page is not a miss."""
    scrape_interval: float = 2.0
    """The interval assumed for a scrape that does not say when the next one comes."""
    slow_start: float = 30.0
    """A new endpoint's `warmth` climbs from 0 to 1 in this time; 0 turns it off."""
    eject_after: int = 5
    """So many failures in a row eject an endpoint; 0 turns ejection off."""
    eject_for: float = 5.0
    """How long the first ejection lasts; each further one lasts twice as long."""
    eject_for_most: float = 300.0
    eject_share: float = 0.5
    """No more than this share of the ready endpoints is ejected at a time, rounded down."""
    prefill_prior: float = 10_000.0
    """Prefill rate believed of an endpoint nothing is known of."""
