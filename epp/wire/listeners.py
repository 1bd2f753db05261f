"""Sockets that listen: TCP, shared or not, and Unix sockets that are only taken from the dead."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NO_PORT: Final = -1
SOCKET_MODE: Final = 0o660
"""Owner and group may connect: a gateway beside the picker runs as another user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """How a server listens: on TCP, on a Unix socket, or on both.

    `port` 0 lets the system choose, NO_PORT is no TCP; with `reuse_port` others of the same user
    may listen there too. What comes through `socket` is never encrypted.
    """

    host: str = "127.0.0.1"
    port: int = 0
    reuse_port: bool = False
    backlog: int = 1_024
    socket: Path | None = None


def tcp_listener(how: Listening) -> socket.socket:
    """Raises OSError when the address cannot be had."""
    wide = ":" in how.host
    return socket.create_server(
        (how.host, how.port),
        family=socket.AF_INET6 if wide else socket.AF_INET,
        backlog=how.backlog,
        reuse_port=how.reuse_port,
        dualstack_ipv6=how.host == "::" and socket.has_dualstack_ipv6(),
    )


def unix_listener(path: Path, backlog: int) -> socket.socket:
    """Listens at `path`. Raises OSError, which names it, when something is there or forbids it."""
    clear_the_way(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(SOCKET_MODE)
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, str(path)) from error
    return listener


def clear_the_way(path: Path) -> None:
    """Remove a socket that nobody listens on; anything else stays. Raises OSError if in use."""
    if abandoned(path):
        path.unlink(missing_ok=True)
    elif os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "the path is in use", str(path))


def abandoned(path: Path) -> bool:
    """Whether `path` is a socket that nobody listens on: all that may be taken away."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return path.is_socket()
        except OSError:
            return False
    return False


class SocketFile:
    """The file of a socket that listens: removed at the end, unless another took its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = path.stat().st_ino

    def remove(self) -> None:
        """Call it before the socket is closed: until then nobody may take the path over."""
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
