"""What the model servers say of themselves on /metrics.

Polls, reads the few families that matter, hands samples to the datastore; it never judges them.
Open `loop.py` first, then `text.py` for how a page is read and `dialects.py` for the engines.
"""

from epp.scrape.dialects import Dialect, Dialects, dialect_from_specs, with_customs
from epp.scrape.fetch import Fetch, HttpFetch
from epp.scrape.further import FurtherPage, FurtherPages
from epp.scrape.loop import Scraper
from epp.scrape.settings import FetchSettings, ScrapeSettings
from epp.scrape.spec import parse_spec
from epp.scrape.stats import ScrapeError, ScrapeStats

__all__ = [
    "Dialect",
    "Dialects",
    "Fetch",
    "FetchSettings",
    "FurtherPage",
    "FurtherPages",
    "HttpFetch",
    "ScrapeError",
    "ScrapeSettings",
    "ScrapeStats",
    "Scraper",
    "dialect_from_specs",
    "parse_spec",
    "with_customs",
]
