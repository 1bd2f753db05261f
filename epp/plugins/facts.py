"""Keys of the facts about a request that plugins leave for each other."""

from typing import Final

from epp.domain.request import Key

SESSION_ID: Final[Key[str]] = Key("session id")
"""Which session a request belongs to, as the client says."""
