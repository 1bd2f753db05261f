"""A policy: every plugin of one configuration, assembled, by the moment at which it takes part.

It lives below `flow`, which runs it, and is built by `assemble`, above. A reload swaps one whole
policy for another between two requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from epp.points import (
    Admitter,
    EndObserver,
    FactProducer,
    Parser,
    PickObserver,
    PoolProducer,
    Reporter,
    ResponseObserver,
    SaturationDetector,
    Screener,
    UsageReader,
)
from epp.scheduling.scheduler import Scheduler


@dataclass(slots=True, frozen=True)
class Policy:
    """Plugins in the order they run; measured where measuring is on. Built by `assemble` alone."""

    scheduler: Scheduler
    parsers: tuple[Parser, ...] = ()
    fact_producers: tuple[FactProducer, ...] = ()
    screeners: tuple[Screener, ...] = ()
    pool_producers: tuple[PoolProducer, ...] = ()
    admitters: tuple[Admitter, ...] = ()
    saturation: SaturationDetector | None = None
    pick_observers: tuple[PickObserver, ...] = ()
    response_observers: tuple[ResponseObserver, ...] = ()
    usage_readers: tuple[UsageReader, ...] = ()
    reporters: tuple[Reporter, ...] = ()
    end_observers: tuple[EndObserver, ...] = ()
    blind: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Response mode to the names of plugins that see nothing in it."""
    warnings: tuple[str, ...] = ()
