"""Writes `docs/plugins.md` from the catalogue: `python -m epp.plugins.document`.

With `--check` it writes nothing and exits with 1 if the page is stale.
"""

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from epp.config.catalogue import points_of
from epp.plugins.catalog import CATALOGUE

PAGE: Final = Path(__file__).parents[2] / "docs" / "plugins.md"
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


def _own() -> list[type[Any]]:
    """Plugins of the catalogue whose docstrings are in form; parsers have a page of their own."""
    return [plugin for plugin in CATALOGUE.classes.values() if "parser" not in points_of(plugin)]


def _table() -> Iterator[str]:
    yield "| type | takes part as | what it does |"
    yield "|---|---|---|"
    for plugin in _own():
        page = page_of(plugin)
        points = ", ".join(points_of(plugin))
        yield f"| [`{page.type}`](#{page.type}) | {points} | {page.summary} |"
    yield ""


def _entries() -> Iterator[str]:
    for plugin in _own():
        page = page_of(plugin)
        yield f"## {page.type}\n"
        yield f"{page.summary[0].upper()}{page.summary[1:]}\n"
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


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it. Returns the exit code."""
    text = document()
    if "--check" not in arguments:
        PAGE.write_text(text)
        return 0
    if PAGE.exists() and PAGE.read_text() == text:
        return 0
    sys.stderr.write("docs/plugins.md is stale: run python -m epp.plugins.document\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
