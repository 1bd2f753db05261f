"""Which build this is: what the image was made from, else what is installed."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Final

UNKNOWN: Final = "unknown"
LONGEST: Final = 128


@dataclass(slots=True, frozen=True)
class Build:
    """A commit's hash, and the name it was built under, such as a tag."""

    commit: str
    ref: str


def build_of(environment: Mapping[str, str]) -> Build:
    """`EPP_COMMIT` and `EPP_BUILD_REF`; without the latter the version of the installed package."""
    commit = environment.get("EPP_COMMIT", "").strip()[:LONGEST]
    ref = environment.get("EPP_BUILD_REF", "").strip()[:LONGEST]
    return Build(commit or UNKNOWN, ref or installed_version())


def installed_version() -> str:
    try:
        return metadata.version("epp")
    except metadata.PackageNotFoundError:
        return UNKNOWN
