"""The identity of an agent: one flow for each of its sessions."""

from typing import ClassVar, Final

from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.headers import Headers

SESSION_HEADERS: Final = (
    "x-claude-code-session-id",
    "x-session-affinity",
    "session-id",
    "session_id",
)
LONGEST: Final = 256
"""Characters; longer ones, and those that cannot be printed, are no identity."""


class AgentIdentity:
    """agent-identity: gives requests of one agent's session a flow of their own.

    Formula: the fairness id of a request that has none is the first of these headers that is there:
    additionalSessionHeaders, then x-claude-code-session-id, x-session-affinity, session-id,
    session_id.
    Parameters: additionalSessionHeaders (list of names, asked first; default none).
    Reads: headers. Writes: the fairness id, which the queue's flows and the metrics go by.
    Example:
        - type: agent-identity
          parameters: {additionalSessionHeaders: [x-my-session]}
    """

    type: ClassVar[str] = "agent-identity"

    class Params(PluginParams):
        additional_session_headers: list[str] = Field(default_factory=list, max_length=32)

    def __init__(self, params: Params) -> None:
        own = (name.lower() for name in params.additional_session_headers)
        self._names = (*own, *SESSION_HEADERS)

    def identity(self, headers: Headers) -> str:
        for name in self._names:
            value = headers.get(name, "")
            if value and len(value) <= LONGEST and value.isprintable():
                return value
        return ""
