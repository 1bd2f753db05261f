"""The producer of session ids."""

from http.cookies import CookieError, SimpleCookie
from typing import ClassVar

from pydantic import model_validator

from epp.config.params import PluginParams
from epp.domain.request import Request
from epp.plugins.facts import SESSION_ID


class SessionIdProducer:
    """session-id-producer: finds out which session a request belongs to.

    Formula: the value of the header headerName, or of the cookie cookieName.
    Parameters: headerName or cookieName (one of both).
    Reads: the header or the cookie. Writes: the session id, which session affinity reads as an
    attribute.
    Example:
        - type: session-id-producer
          parameters: {headerName: x-session-id}
    """

    type: ClassVar[str] = "session-id-producer"
    produces: ClassVar[tuple[str, ...]] = (SESSION_ID.name,)

    class Params(PluginParams):
        header_name: str = ""
        cookie_name: str = ""

        @model_validator(mode="after")
        def _one_of_both(self) -> "SessionIdProducer.Params":
            if bool(self.header_name) == bool(self.cookie_name):
                raise ValueError("give either `headerName` or `cookieName`")
            return self

    def __init__(self, params: Params) -> None:
        self._header = params.header_name.lower()
        self._cookie = params.cookie_name

    def gather(self, request: Request) -> None:
        if self._header:
            session = request.headers.get(self._header)
        else:
            session = _cookie(request.headers.get("cookie", ""), self._cookie)
        if session:
            request.facts.put(SESSION_ID, session)


def _cookie(text: str, name: str) -> str | None:
    try:
        found = SimpleCookie(text).get(name)
    except CookieError:
        return None
    return found.value if found else None
