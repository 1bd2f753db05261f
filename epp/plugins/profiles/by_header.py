"""The handler that lets a header choose the profile."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from epp.config.params import PluginParams, Reference, ToProfile
from epp.domain.decision import ProfileResult
from epp.domain.request import Request
from epp.errors import BadRequest


class HeaderProfileHandler:
    """header-profile-handler: runs the profile a header names.

    Formula: the profile named by the header headerName, or defaultProfile without it.
    Parameters: headerName (default EPP-Profile), defaultProfile (default decode).
    Reads: the header.
    Differs from the Go picker: a name that is no profile is answered with 400 and the header's
    name, not with 429.
    Example:
        - type: header-profile-handler
          parameters: {defaultProfile: chat}
    """

    type: ClassVar[str] = "header-profile-handler"

    class Params(PluginParams):
        header_name: str = Field("EPP-Profile", min_length=1)
        default_profile: str = Field("decode", min_length=1)

        def refers(self) -> Iterator[Reference]:
            yield ToProfile(("defaultProfile",), self.default_profile)

    def __init__(self, params: Params) -> None:
        self._header = params.header_name.lower()
        self._default = params.default_profile

    def next_profiles(
        self, request: Request, results: Mapping[str, ProfileResult | None], names: Sequence[str]
    ) -> Sequence[str]:
        if results:
            return ()
        wanted = request.headers.get(self._header) or self._default
        if wanted not in names:
            raise BadRequest(f"header {self._header} names no profile; use {', '.join(names)}")
        return (wanted,)

    def primary(self, results: Mapping[str, ProfileResult | None]) -> str:
        return next(iter(results))
