"""What became of the events, counted."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counts:
    """All endpoints together, since the start."""

    batches: int = 0
    stored: int = 0
    """Blocks."""
    removed: int = 0
    """Blocks."""
    cleared: int = 0
    """Times an engine emptied its cache."""
    orphans: int = 0
    """Blocks whose parent was not known: nothing can be said of the prompts they belong to."""
    other_groups: int = 0
    """Events of attention groups that say nothing about prefixes."""
    unread: int = 0
    """Events and batches that could not be read."""
    repeated: int = 0
    """Batches that came again."""
    gaps: int = 0
    """Times batches were missing."""
    restarts: int = 0
    """Times an engine counted from its start again."""
    replays: dict[str, int] = field(default_factory=lambda: {"done": 0, "failed": 0})
    resets: int = 0
    """Times what was known of an endpoint was given up."""
    unknown_sources: int = 0
    """Messages from engines that are no endpoint of the pool."""
