"""CPU of reading, rewriting and watching bodies. Run: python test/bench/bench_request.py

Prints one line for each kind of work: microseconds for one call, the best of several rounds.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from support.requests import head, intake, response_head  # noqa: E402

from epp.domain.request import Request  # noqa: E402
from epp.plugins.parsers.anthropic import AnthropicParser  # noqa: E402
from epp.plugins.parsers.openai import OpenAIParser  # noqa: E402
from epp.plugins.parsers.passthrough import PassthroughParser  # noqa: E402
from epp.request.reader import RequestReader  # noqa: E402
from epp.request.response import response_body_for  # noqa: E402
from epp.request.rewrite import rewrite_model  # noqa: E402
from epp.request.structure import deeper_than  # noqa: E402

ROUNDS = 7
ROUND_SECONDS = 0.05

EVENT = {
    "id": "chatcmpl-0123456789abcdef",
    "object": "chat.completion.chunk",
    "created": 1760000000,
    "model": "theirs",
    "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}],
}


def chat(turns: int, content: str) -> bytes:
    messages = [{"role": "user", "content": content} for _ in range(turns)]
    return json.dumps({"model": "m", "messages": messages, "stream": True}).encode()


BODIES = {
    "chat 0.1 KB": chat(1, "hello"),
    "chat 12 KB, 24 turns": chat(24, 'say "hello" twice ' * 26),
    "chat 220 KB, 1 turn": chat(1, "one two three\n" * 14_600),
    "chat 220 KB of code": chat(1, 'x[i] = {"a": [b]}\n' * 9_500),
}
IDS = json.dumps({"model": "m", "prompt": list(range(100_000))}).encode()


def microseconds(work: Callable[[], object]) -> float:
    """The best round's mean, in CPU time of this process."""
    once = time.process_time()
    work()
    times = max(1, int(ROUND_SECONDS / max(time.process_time() - once, 1e-6)))
    return min(_round(work, times) for _ in range(ROUNDS)) / times * 1e6


def _round(work: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        work()
    return time.process_time() - start


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    reader = RequestReader((OpenAIParser(), AnthropicParser(), PassthroughParser()))
    for name, body in BODIES.items():
        whole = intake(body)
        yield f"read {name}", lambda whole=whole: reader.read(whole, "r", 0.0)
        yield f"depth {name}", lambda body=body: deeper_than(body, 64)
        yield f"rewrite {name}", lambda body=body: rewrite_model(body, "other")
    ids = intake(IDS, "/v1/completions")
    yield "read 100,000 token ids", lambda: reader.read(ids, "r", 0.0)
    yield from chunk_cases()


def chunk_cases() -> Iterator[tuple[str, Callable[[], object]]]:
    event = b"data: " + json.dumps(EVENT).encode() + b"\n\n"
    plain = Request(id="r", head=head(), kind="chat", model="m", target_model="m")
    renamed = Request(id="r", head=head(), kind="chat", model="m", target_model="theirs")
    for name, request, wants_usage in (
        ("usage", plain, True),
        ("rename", renamed, False),
        ("usage and rename", renamed, True),
    ):
        body = response_body_for(request, response_head("text/event-stream"), wants_usage)
        yield f"chunk {name}", lambda body=body: body.feed(event, False)


def main() -> dict[str, float]:
    """Name of the work to microseconds."""
    return {name: round(microseconds(work), 1) for name, work in cases()}


if __name__ == "__main__":
    for name, cost in main().items():
        print(f"{name:32} {cost:9.1f} us")
