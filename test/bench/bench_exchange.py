"""CPU of one ext_proc stream without a wire. Run: python test/bench/bench_exchange.py

Protobuf parsed, exchange driven, replies written; the path answers at once with a constant ticket.
Prints microseconds for one call of each kind of work, the best of several rounds.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from support.ext_proc import (  # noqa: E402
    modes,
    request_body,
    request_headers,
    response_body,
    response_headers,
)

from epp.domain.headers import NO_CHANGES  # noqa: E402
from epp.wire import messages  # noqa: E402
from epp.wire.budget import ByteBudget  # noqa: E402
from epp.wire.calls import Cancellation  # noqa: E402
from epp.wire.session import Process  # noqa: E402

ROUNDS = 7
ROUND_SECONDS = 0.05
DUPLEX = "FULL_DUPLEX_STREAMED"
HEADERS = {
    "content-type": "application/json",
    "content-length": "400",
    "user-agent": "curl/8",
    "accept": "*/*",
    ":scheme": "http",
    "x-forwarded-proto": "http",
    "x-request-id": "7f3c9c1e-8a51-4d0e-9f0e-0d6f6d3b8a10",
    "x-envoy-expected-rq-timeout-ms": "15000",
}


class Ticket:
    """A placed request that changes nothing."""

    destination = "10.0.0.1:8000"
    changes = NO_CHANGES
    body = None
    metadata = {}  # noqa: RUF012

    def sent(self):
        pass

    def response_started(self, head):
        return NO_CHANGES

    def response_chunk(self, data, end):
        return data

    def response_metadata(self):
        return {}

    def ended(self, ending):
        pass


class ConstantPath:
    """Answers every request with one ticket."""

    ticket = Ticket()

    def decide(self, intake):
        return self.ticket


class Sink:
    """A call that swallows what it is given."""

    metadata = ()
    deadline = None
    peer = ""
    writable = True

    def send(self, message):
        pass

    def end(self, status=0, message="", trailing=()):
        pass


PROCESS = Process(ConstantPath(), budget=ByteBudget(1 << 30))
FIRST = modes(request_headers(HEADERS), DUPLEX, DUPLEX)
FULL_RESPONSE = [
    response_headers(server="vllm"),
    response_body(b"y" * 500),
    response_body(end=True),
]
STREAMS = {
    "small request, duplex + full": [
        FIRST,
        request_body(b"x" * 400),
        request_body(end=True),
        *FULL_RESPONSE,
    ],
    "small request, buffered + watch": [
        modes(request_headers(HEADERS), "BUFFERED", "NONE"),
        request_body(b"x" * 400, end=True),
        response_headers(server="vllm"),
    ],
    "220 KB prompt, duplex + full": [
        FIRST,
        *[request_body(b"x" * 16_384) for _ in range(13)],
        request_body(end=True),
        *FULL_RESPONSE,
    ],
    "220 KB prompt, buffered + watch": [
        modes(request_headers(HEADERS), "BUFFERED", "NONE"),
        request_body(b"x" * 220_000, end=True),
        response_headers(server="vllm"),
    ],
}


def microseconds(work: Callable[[], object]) -> float:
    """The best round's mean, in CPU time of this process."""
    once = time.process_time()
    work()
    times = max(1, int(ROUND_SECONDS / max(time.process_time() - once, 1e-6)))
    return min(_round(work, times) for _ in range(ROUNDS)) / times * 1e6


def _round(work: Callable[[], object], times: int) -> float:
    begun = time.process_time()
    for _ in range(times):
        work()
    return time.process_time() - begun


def whole_stream(wire: list[bytes]) -> Callable[[], None]:
    """One stream from its first message to the gateway's reset."""

    def run() -> None:
        handler = PROCESS.open(Sink())
        for message in wire:
            handler.message(message)
        handler.cancelled(Cancellation.RESET)

    return run


def one_chunk() -> Callable[[], None]:
    """One more chunk of a response that is streaming."""
    handler = PROCESS.open(Sink())
    for message in (FIRST, request_body(end=True), response_headers()):
        handler.message(message.SerializeToString())
    chunk = response_body(b"z" * 200).SerializeToString()
    return lambda: handler.message(chunk)


def reply(**more: object) -> Callable[[], bytes]:
    """The reply to a request's headers; with `more` headers to set it is written anew."""
    headers = {"x-a": "1"} if more else {}
    return lambda: messages.request_headers(messages.Route("10.0.0.1:8000", headers, (), {}))


def main() -> None:
    for name, stream in STREAMS.items():
        wire = [message.SerializeToString() for message in stream]
        print(f"{name:36} {microseconds(whole_stream(wire)):9.2f} us")
    print(f"{'streamed chunk':36} {microseconds(one_chunk()):9.2f} us")
    print(f"{'headers reply, remembered':36} {microseconds(reply()):9.2f} us")
    print(f"{'headers reply, written':36} {microseconds(reply(more=True)):9.2f} us")


if __name__ == "__main__":
    main()
