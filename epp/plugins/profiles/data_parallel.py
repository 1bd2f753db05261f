"""The handler of ranks behind one port: a sidecar there passes each request on to its rank."""

from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.decision import Decision
from epp.domain.headers import HeaderChanges
from epp.domain.pool import PoolView
from epp.domain.request import Request
from epp.plugins.profiles.single import SingleProfileHandler

RANK: Final = "x-data-parallel-host-port"


class DataParallelProfileHandler(SingleProfileHandler):
    """data-parallel-profile-handler: picks a rank behind its host's primary port; deprecated.

    Formula: the first configured profile runs once; its pick's rank is named in a header, and the
    request goes to primaryPort of the pick's host. Load is counted at the rank.
    Parameters: primaryPort (1 to 65535, default 8000).
    Writes: request header x-data-parallel-host-port (address of the rank); the destination's port.
    Differs from the Go picker: the destination is one address, though the picker names more: the
    header would name a rank of another host. A gateway that goes to the pool's endpoints alone
    needs primaryPort among the pool's target ports.
    Example:
        - type: data-parallel-profile-handler
          parameters: {primaryPort: 8000}
    """

    type: ClassVar[str] = "data-parallel-profile-handler"
    deprecated: ClassVar[str] = "give the pool several target ports: every rank is an endpoint"

    class Params(PluginParams):
        primary_port: int = Field(default=8000, ge=1, le=65535)

    def __init__(self, params: Params) -> None:
        self.front_port = params.primary_port

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> HeaderChanges | None:
        return HeaderChanges(set=rank_header(decision))


def rank_header(decision: Decision) -> Mapping[str, str]:
    """Which rank was picked, for the sidecar at its host's front port."""
    return {RANK: decision.endpoint.address}
