"""Collects everything that is wrong with a configuration, each with its place and the fix."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeAlias

from epp.errors import ConfigError

Path: TypeAlias = tuple[str | int, ...]
"""Where in a document: keys and list positions from the top."""


def written(path: Path) -> str:
    """`plugins[0].parameters.blockSize` for `("plugins", 0, "parameters", "blockSize")`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that looks most like `name`; None if none does."""
    by_folded = {candidate.lower(): candidate for candidate in valid}
    close = difflib.get_close_matches(name[:100].lower(), by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def suggestion(name: str, valid: Iterable[str]) -> str:
    """What to say after "unknown": the nearest valid name, else a few of all that are valid."""
    names = sorted(set(valid))
    if close := nearest(name, names):
        return f"did you mean {close!r}?"
    if not names:
        return "there is none to choose from"
    shown = ", ".join(names[:12])
    return f"valid: {shown}, ..." if len(names) > 12 else f"valid: {shown}"


@dataclass(slots=True, frozen=True)
class Place:
    """A document and the line each path of it stands on; `origin` names the file."""

    origin: str
    lines: Mapping[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int | None:
        """The line of `path`, or of the nearest thing around it that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def says(self, path: Path, what: str) -> str:
        """`file:line: path: what`."""
        line = self.line(path)
        where = f"{self.origin}:{line}" if line else self.origin
        return f"{where}: {written(path)}: {what}" if path else f"{where}: {what}"


@dataclass(slots=True)
class Problems:
    """Everything found wrong with one document so far, and what is only worth a warning."""

    place: Place
    warnings: list[str] = field(default_factory=list)
    _found: list[tuple[int, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._found)

    def add(self, path: Path, what: str) -> None:
        """Note a problem at `path`; `what` says what is wrong and then the fix."""
        self._found.append((self.place.line(path) or 0, self.place.says(path, what)))

    def warn(self, path: Path, what: str) -> None:
        """Note something that works but deserves a word."""
        self.warnings.append(self.place.says(path, what))

    def raise_any(self) -> None:
        """Raises ConfigError if anything was found; problems come in the order of the lines."""
        if self._found:
            raise ConfigError([what for _, what in sorted(self._found, key=itemgetter(0))])
