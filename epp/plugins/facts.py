"""Keys of the facts about a request that plugins leave for each other."""

from typing import Final

from epp.domain.endpoint import Endpoint
from epp.domain.pool import Mask
from epp.domain.request import Key, Request

SESSION_ID: Final[Key[str]] = Key("session id")
"""Which session a request belongs to, as the client says."""

PEER: Final[Key[Endpoint]] = Key("peer")
"""The endpoint an earlier profile picked for this request, which a later one should stand near."""

Verdicts = dict[str, tuple[tuple[Endpoint, ...], Mask]]

VERDICTS: Final[Key[Verdicts]] = Key("verdicts of deciders")
"""Decider's name to the endpoints it judged, and for each whether it wants help with its work."""


def give_verdict(
    request: Request, decider: str, endpoints: tuple[Endpoint, ...], yes: Mask
) -> None:
    """For each of `endpoints`, whether a stage runs elsewhere if the request is decoded there."""
    verdicts = request.facts.get(VERDICTS)
    if verdicts is None:
        verdicts = {}
        request.facts.put(VERDICTS, verdicts)
    verdicts[decider] = endpoints, yes


def verdict(request: Request, decider: str, endpoint: Endpoint) -> bool:
    """What `decider` said of `endpoint`; no where it said nothing."""
    endpoints, yes = (request.facts.get(VERDICTS) or {}).get(decider, ((), None))
    if yes is None or endpoint not in endpoints:
        return False
    return bool(yes[endpoints.index(endpoint)])
