"""Feeds spoiled frames to the wire: it may close a connection, never raise, hang or grow.

    python test/conformance/fuzz.py --frames 10000000

Each connection gets a plausible conversation of which one frame in five is spoiled, cut at random
places. Prints one JSON line; exits 1 when anything but the protocol's own errors came out.
"""

# ruff: noqa: E402 - a script outside the package has to say first where the package is.

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]

from support.wire_echo import echo_methods
from support.wire_fuzz import Mutator, conversation

from epp.wire import frames
from epp.wire.grpc import Router
from epp.wire.http2 import Connection
from epp.wire.limits import Counters, Limits

SLOWEST_READ_SECONDS = 1.0
LIMITS = Limits(max_streams=100, connection_window=1 << 20, stream_window=1 << 18)


class Run:
    """Counts over many connections, and what must hold after each."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.counters = Counters()
        self.codes: Counter[str] = Counter()
        self.problems: list[str] = []
        self.slowest = 0.0
        self.frames = 0
        self.connections = 0

    def connection(self) -> None:
        """One connection, until it closes or 2,000 frames are through."""
        self.connections += 1
        seed = self.seed * 1_000_003 + self.connections
        server = Connection(Router(echo_methods(), self._fault).accept, now=0.0, limits=LIMITS)
        self._read(server, frames.PREFACE + frames.settings_frame([]), 0.0)
        share = self.chance.choice((0.002, 0.02, 0.2))
        spoiled = Mutator(seed, share).mutated(conversation(seed), 2_000)
        for number, data in enumerate(spoiled):
            if server.closing:
                break
            self._feed(server, data, number * 0.05)
            self.frames += 1
        self._close(server)

    def _feed(self, server: Connection, data: bytes, now: float) -> None:
        cut = self.chance.randrange(len(data) + 1) if self.chance.random() < 0.3 else 0
        for piece in (data[:cut], data[cut:]):
            self._read(server, piece, now)
        server.tick(now)

    def _read(self, server: Connection, data: bytes, now: float) -> None:
        began = time.process_time()
        try:
            server.receive(data, now)
            server.take()
        except Exception as error:  # noqa: BLE001 - anything that comes out is a finding
            self.problems.append(f"connection {self.connections}: {error!r}")
            server.lost()
        self.slowest = max(self.slowest, time.process_time() - began)

    def _close(self, server: Connection) -> None:
        if server.fault is not None:
            self.codes[server.fault.code.name] += 1
        server.lost()
        self.counters.add(server.counters)
        if server.assembling or server.streams or server._outbox.queued:
            self.problems.append(f"connection {self.connections}: something is left")

    def _fault(self, error: Exception) -> None:
        if not isinstance(error, ZeroDivisionError):
            self.problems.append(f"handler: {error!r}")

    def report(self, seconds: float, grown: int) -> dict[str, object]:
        return {
            "frames": self.frames,
            "connections": self.connections,
            "seconds": round(seconds, 1),
            "slowest_read_cpu_ms": round(self.slowest * 1e3, 2),
            "objects_grown": grown,
            "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "closed_with": dict(self.codes),
            "calls_ok": self.counters.calls_ok,
            "calls_failed": self.counters.calls_failed,
            "stream_and_connection_errors": self.counters.protocol_faults,
            "problems": self.problems[:10],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    run = Run(options.seed)
    began = time.perf_counter()
    while run.frames < min(options.frames, 20_000):
        run.connection()
    before = _live_objects()
    while run.frames < options.frames:
        run.connection()
    grown = _live_objects() - before
    print(json.dumps(run.report(time.perf_counter() - began, grown)))
    healthy = not run.problems and run.slowest < SLOWEST_READ_SECONDS and grown < 1_000
    return 0 if healthy else 1


def _live_objects() -> int:
    gc.collect()
    return len(gc.get_objects())


if __name__ == "__main__":
    sys.exit(main())
