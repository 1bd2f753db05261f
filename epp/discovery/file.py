"""Endpoints from a file: read at start, again when it changes, never believed when broken."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog
from watchfiles import awatch

from epp.datastore import Datastore
from epp.discovery.parse import MAX_BYTES, parse_endpoints
from epp.discovery.resolve import Names, Resolve, resolve_by_system
from epp.domain.endpoint import Endpoint
from epp.errors import ConfigError

SOURCE: Final = "file"
POLL_EVERY: Final = 1.0
RESOLVE_EVERY: Final = 30.0
RESOLVE_DEADLINE: Final = 5.0


class FileDiscovery:
    """Tells the store which endpoints a YAML or JSON file lists.

    The file may be replaced by rename, or by a symbolic link on its way (as ConfigMaps are).
    """

    def __init__(
        self,
        path: str | Path,
        store: Datastore,
        *,
        watch: bool = True,
        resolve: Resolve = resolve_by_system,
        poll_every: float = POLL_EVERY,
        resolve_every: float = RESOLVE_EVERY,
        log: Any = None,
        told: Callable[[str], None] | None = None,
    ) -> None:
        """`told` hears `applied` or `refused` of each change of the file."""
        self.path = Path(path)
        self._store = store
        self._watch = watch
        self._poll_every = poll_every
        self._resolve_every = resolve_every
        self._log = log if log is not None else structlog.get_logger("epp.discovery")
        self._told = told
        self._names = Names(resolve, RESOLVE_DEADLINE, self._log)
        self._listed: tuple[Endpoint, ...] = ()
        self._digest = b""
        self._mark: tuple[int, int, int] | None = None
        self._complaint = ""

    async def load(self) -> None:
        """Read the file and tell the store. Raises `ConfigError` if that cannot be done."""
        self._mark = self._look()
        listed, self._digest = await asyncio.to_thread(self._parsed, b"")
        self._listed = listed or ()
        await self._publish()

    async def run(self) -> None:
        """Follow changes until cancelled; a broken file changes nothing and is logged once."""
        changed = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_names())
            if self._watch:
                group.create_task(self._listen(changed))
                group.create_task(self._follow_file(changed))

    # -- the file ---------------------------------------------------------------------------------

    async def _follow_file(self, changed: asyncio.Event) -> None:
        # Told by the system or not, the content is looked at once in a while: links may lead
        # through directories nobody watches, and some file systems tell nothing.
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_every):
                    await changed.wait()
            mark = self._look()
            if not changed.is_set() and mark == self._mark:
                continue
            changed.clear()
            self._mark = mark
            await self._reload()

    def _look(self) -> tuple[int, int, int] | None:
        """What tells one state of the file from another without reading it; None without a file."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    async def _listen(self, changed: asyncio.Event) -> None:
        try:
            async for _ in awatch(self.path.parent, recursive=False, debounce=50, step=20):
                changed.set()
        except (OSError, RuntimeError) as error:
            self._log.warning("file_watch_unavailable", path=str(self.path), why=str(error))

    async def _reload(self) -> None:
        try:
            listed, digest = await asyncio.to_thread(self._parsed, self._digest)
        except ConfigError as error:
            self._complain(str(error))
            return
        self._heal()
        if listed is None:
            return
        self._listed, self._digest = listed, digest
        await self._publish()
        self._log.info("endpoints_loaded", path=str(self.path), endpoints=len(listed))
        if self._told is not None:
            self._told("applied")

    def _parsed(self, digest: bytes) -> tuple[tuple[Endpoint, ...] | None, bytes]:
        """What the file lists, None where its digest is still `digest`; for a thread."""
        data = self._read()
        found = hashlib.sha256(data).digest()
        return (None if found == digest else parse_endpoints(data, str(self.path))), found

    def _read(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except OSError as error:
            why = error.strerror or repr(error)
            raise ConfigError([f"{self.path}: cannot be read: {why}"]) from error

    def _complain(self, why: str) -> None:
        if why != self._complaint:
            self._complaint = why
            kept = len(self._listed)
            self._log.error("endpoints_broken", path=str(self.path), why=why, kept=kept)
            if self._told is not None:
                self._told("refused")

    def _heal(self) -> None:
        if self._complaint:
            self._complaint = ""
            self._log.info("endpoints_healed", path=str(self.path))

    # -- the names --------------------------------------------------------------------------------

    async def _follow_names(self) -> None:
        while True:
            await asyncio.sleep(self._resolve_every)
            await self._publish()

    async def _publish(self) -> None:
        listed = self._listed
        endpoints = await self._names.settle(listed)
        if listed is self._listed:
            # While names were looked up the file may have changed; then its own look-up counts.
            self._store.set_endpoints(SOURCE, endpoints)
