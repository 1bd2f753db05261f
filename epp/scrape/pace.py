"""When an endpoint is asked again: a function of what the last scrape said."""

from epp.scrape.settings import ScrapeSettings

LEAST_BACK_OFF = 0.2


def busy_interval(settings: ScrapeSettings, busy: int) -> float:
    """The interval of busy endpoints when there are `busy` of them.

    So that their scrapes together stay under `most_per_second`: the ledger knows what we sent in
    between, a saturated event loop helps nobody.
    """
    return max(settings.busy, busy / settings.most_per_second)


def next_interval(settings: ScrapeSettings, previous: float, *, is_busy: bool, busy: int) -> float:
    """The interval after a good scrape. An idle endpoint's grows step by step up to `idle`."""
    quick = busy_interval(settings, busy)
    if is_busy:
        return quick
    return max(quick, min(settings.idle, previous * settings.growth))


def back_off(settings: ScrapeSettings, failures: int) -> float:
    """The interval after so many failures in a row: each doubles it."""
    return min(settings.failing, LEAST_BACK_OFF * 2.0 ** min(failures - 1, 16))
