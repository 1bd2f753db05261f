"""passthrough-parser: whatever no other parser reads."""

from typing import ClassVar, Final

from epp.domain.request import Head, ParsedBody

_UNREAD: Final = ParsedBody(kind="passthrough")


class PassthroughParser:
    """passthrough-parser: takes any path and looks at nothing; control headers still work.

    Formula: no model and no prompt.
    Parameters: none.
    Example:
        - type: passthrough-parser
    """

    type: ClassVar[str] = "passthrough-parser"
    paths: ClassVar[tuple[str, ...]] = ()

    def parse(self, head: Head, body: bytes) -> ParsedBody:
        """The same for every body: no model, no prompt."""
        return _UNREAD
