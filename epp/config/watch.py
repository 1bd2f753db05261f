"""A configuration file that changes: each new text is handed on once.

Knows of files only. An editor's save, an atomic rename and the symlink swap of a mounted ConfigMap
all come down to the same: the folder saw a change, and the text at the path is another one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from watchfiles import awatch

from epp.config.text import MAX_BYTES

DEBOUNCE_MS: Final = 100
POLL_SECONDS: Final = 30.0
"""The file is also read this often, for file systems that tell of no change."""


class FileWatch:
    """Calls `changed` with each new text of `path`, and `lost` with a reason when it has none.

    Both run on the loop's thread and must not wait. `first` is the text in force; a file that comes
    back with that text is no change, and one reason is told once.
    """

    def __init__(
        self,
        path: str | Path,
        first: bytes,
        *,
        changed: Callable[[bytes], None],
        lost: Callable[[str], None],
        poll: float = POLL_SECONDS,
    ) -> None:
        self._path = Path(path)
        self._seen: bytes | str = first
        self._changed = changed
        self._lost = lost
        self._poll = poll

    async def run(self) -> None:
        """Watch until cancelled."""
        await self.look()
        async for _ in _folder_changes(self._path.parent, self._poll):
            await self.look()

    async def look(self) -> None:
        """Read the file now and tell what is new."""
        found = await asyncio.to_thread(read_file, self._path)
        if found == self._seen:
            return
        self._seen = found
        if isinstance(found, bytes):
            self._changed(found)
        else:
            self._lost(found)


def read_file(path: Path) -> bytes | str:
    """The file's bytes, or why it cannot be read; never more than the limit and one byte."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as fault:
        return f"{path}: cannot be read: {fault.strerror}"


async def _folder_changes(folder: Path, poll: float) -> AsyncIterator[None]:
    """Yields when something happened in `folder`, and every `poll` seconds.

    Where nothing can be watched (no such folder, no watch left in the kernel) only the polling goes
    on: a picker does not end because its configuration cannot be watched.
    """
    while True:
        try:
            async for _ in awatch(
                folder,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                rust_timeout=int(poll * 1000),
                yield_on_timeout=True,
                recursive=False,
            ):
                yield
        except (OSError, RuntimeError):
            await asyncio.sleep(poll)
            yield
