"""Writes `docs/plugins.md` from the catalogue, and the table of parsers in `docs/migration.md`.

Run `python -m epp.plugins.document`; with `--check` it writes nothing and exits with 1 if a page is
stale.
"""

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from epp.config.catalogue import points_of
from epp.plugins.catalog import CATALOGUE, NOT_TAKEN

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE: Final = DOCS / "plugins.md"
MIGRATION: Final = DOCS / "migration.md"
TABLE: Final = re.compile(r"(?<=^\| Parser \| Paths \| What is read \|\n)(?:\|.*\n)+", re.MULTILINE)
"""The lines beneath the heading of the parsers' table."""
SECTIONS: Final = (
    "Formula",
    "Parameters",
    "Reads",
    "Writes",
    "Differs from the Go picker",
    "Example",
)
_SECTION: Final = re.compile(rf"(?:^|(?<=\. ))({'|'.join(SECTIONS)}):\s*", re.MULTILINE)

HEAD: Final = """\
# Plugins

Written by `python -m epp.plugins.document` from the docstrings; a test keeps it fresh.

Columns such as `waiting` are what one decision sees of the pool: one value for each endpoint, with
our own dispatches counted in until a scrape shows them. `fresh` is false where metrics are too old.
"""


class Page(NamedTuple):
    """What a plugin's docstring says, by section; `summary` is its first line without the type."""

    type: str
    summary: str
    sections: Mapping[str, str]


def page_of(plugin: type[Any]) -> Page:
    """The docstring of a plugin, taken apart. Raises ValueError where it is not in form."""
    text = inspect.getdoc(plugin) or ""
    first, _, body = text.partition("\n")
    type_name, colon, summary = first.partition(": ")
    if type_name != plugin.type or not colon or not summary.endswith("."):
        raise ValueError(f"{plugin.__name__}: begin with '{plugin.type}: <what it does>.'")
    parts = _SECTION.split(body)
    if parts[0].strip():
        raise ValueError(f"{plugin.__name__}: text before the first section: {parts[0].strip()!r}")
    sections = dict(zip(parts[1::2], (part.rstrip() for part in parts[2::2]), strict=True))
    for needed in ("Formula", "Parameters", "Example"):
        if needed not in sections:
            raise ValueError(f"{plugin.__name__}: section {needed!r} is missing")
    return Page(type_name, summary, sections)


def example_of(plugin: type[Any]) -> str:
    """The docstring's YAML, a list of plugin entries."""
    return textwrap.dedent("    " + page_of(plugin).sections["Example"].lstrip("\n"))


def document() -> str:
    """The whole page."""
    return "\n".join([HEAD, *_table(), *_entries(), *_old_names(), *_refused()]) + "\n"


def migration(page: str) -> str:
    """The page for those who come from other pickers, with the table of parsers as it is today."""
    return TABLE.sub("".join(f"{line}\n" for line in _parsers()), page)


def _parsers() -> Iterator[str]:
    yield "|---|---|---|"
    for plugin in CATALOGUE.offering("parser"):
        formula = " ".join(page_of(plugin).sections["Formula"].split()).rstrip(".")
        yield f"| [`{plugin.type}`](plugins.md#{plugin.type}) | {_paths(plugin)} | {formula} |"


def _paths(parser: type[Any]) -> str:
    """Each path; those of one gRPC service behind its name."""
    services: dict[str, list[str]] = {}
    for path in parser.paths:
        head, _, method = path.rpartition("/")
        service = head if "." in head else ""
        services.setdefault(service, []).append(f"`{method if service else path}`")
    said = (
        f"`{service}/` {', '.join(ends)}" if service else ", ".join(ends)
        for service, ends in services.items()
    )
    return "; ".join(said) or "all others"


def _table() -> Iterator[str]:
    yield "| type | takes part as | what it does |"
    yield "|---|---|---|"
    for plugin in CATALOGUE.classes.values():
        page = page_of(plugin)
        points = ", ".join(points_of(plugin))
        yield f"| [`{page.type}`](#{page.type}) | {points} | {page.summary} |"
    yield ""


def _entries() -> Iterator[str]:
    for plugin in CATALOGUE.classes.values():
        page = page_of(plugin)
        yield f"## {page.type}\n"
        yield f"{page.summary[0].upper()}{page.summary[1:]}\n"
        if "parser" in points_of(plugin):
            yield f"* **Paths**: {_paths(plugin)}"
        for name in SECTIONS[:-1]:
            if name in page.sections:
                yield f"* **{name}**: {' '.join(page.sections[name].split())}"
        yield f"\n```yaml\n{example_of(plugin).rstrip()}\n```\n"


def _old_names() -> Iterator[str]:
    yield "## Old names\n"
    yield "Accepted with one warning.\n"
    yield "| old | now |"
    yield "|---|---|"
    for old, new in sorted(CATALOGUE.aliases.items()):
        yield f"| `{old}` | `{new}` |"
    yield ""


def _refused() -> Iterator[str]:
    yield "## Left out\n"
    yield "Types of other pickers that a configuration may not name here.\n"
    yield "| type | why | instead |"
    yield "|---|---|---|"
    for refusal in sorted(CATALOGUE.refusals.values(), key=lambda each: each.type):
        yield f"| `{refusal.type}` | {refusal.reason} | {refusal.instead} |"
    yield ""
    yield "Parameters of types above that are refused by name.\n"
    yield "| parameter | why | instead |"
    yield "|---|---|---|"
    for refusal in NOT_TAKEN:
        yield f"| `{refusal.type}` | {refusal.reason} | {refusal.instead} |"


def main(arguments: list[str]) -> int:
    """Write the pages, or with `--check` compare them. Returns the exit code."""
    pages = {PAGE: document(), MIGRATION: migration(MIGRATION.read_text())}
    stale = [page for page, text in pages.items() if not page.exists() or page.read_text() != text]
    if "--check" in arguments:
        for page in stale:
            sys.stderr.write(f"docs/{page.name} is stale: run python -m epp.plugins.document\n")
        return 1 if stale else 0
    for page in stale:
        page.write_text(pages[page])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
