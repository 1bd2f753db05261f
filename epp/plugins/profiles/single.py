"""The handler of configurations with one profile."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from epp.domain.decision import ProfileResult
from epp.domain.request import Request


class SingleProfileHandler:
    """single-profile-handler: runs the only profile.

    Formula: the first configured profile runs once, and its pick is the destination.
    Parameters: none.
    Reads: nothing.
    Example:
        - type: single-profile-handler
    """

    type: ClassVar[str] = "single-profile-handler"

    def next_profiles(
        self, request: Request, results: Mapping[str, ProfileResult | None], names: Sequence[str]
    ) -> Sequence[str]:
        return () if results else names[:1]

    def primary(self, results: Mapping[str, ProfileResult | None]) -> str:
        return next(iter(results))
