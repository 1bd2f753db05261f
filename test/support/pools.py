"""Views of a pool, requests and the tools of the house, for tests of plugins."""

import random

import numpy as np

from epp.datastore.sample import NO_LORA
from epp.domain.decision import Decision, ProfileResult
from epp.domain.endpoint import Endpoint
from epp.domain.pool import PoolView
from epp.domain.request import Head, Prompt, Request
from epp.points import Tools

GAUGES = ("waiting", "running", "kv_usage", "age")
COUNTS = ("inflight_requests", "inflight_tokens")


def endpoint(number: int = 0, **fields) -> Endpoint:
    """The endpoint `pod-<number>` at 10.0.0.<number>:8000."""
    given = {"name": f"pod-{number}", "host": f"10.0.0.{number}", "port": 8000, "uid": f"u{number}"}
    return Endpoint(**(given | fields))


def pool(size: int | None = None, *, endpoints=None, **columns) -> PoolView:
    """A view of `size` idle, fresh endpoints, or as many as the columns given have rows."""
    if endpoints is None:
        size = size if size is not None else len(next(iter(columns.values())))
        endpoints = [endpoint(number) for number in range(size)]
    size = len(endpoints)
    known = {name: np.zeros(size) for name in GAUGES}
    known |= {name: np.zeros(size, dtype=np.int64) for name in COUNTS}
    known |= {"fresh": np.ones(size, dtype=np.bool_), "slots": np.arange(size)}
    known |= {"lora": objects([NO_LORA] * size)}
    given = {name: objects(v) if name == "lora" else np.array(v) for name, v in columns.items()}
    return PoolView(tuple(endpoints), known | given)


def objects(values) -> np.ndarray:
    """An object column."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def request(*prompts, headers=None, **fields) -> Request:
    """A request with these prompts: bytes, or sequences of token ids."""
    known = [Prompt(text=p) if isinstance(p, bytes) else Prompt(token_ids=p) for p in prompts]
    given = {
        "id": "r1",
        "head": Head(headers or {}),
        "model": "m",
        "target_model": "m",
        "prompts": tuple(known),
        "prompt_tokens": sum(prompt.tokens for prompt in known),
    }
    return Request(**(given | fields))


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Shelf:
    """State of one plugin, kept by name and shape."""

    def __init__(self) -> None:
        self.states = {}

    def keep(self, name, make, *, shape=""):
        if (name, shape) not in self.states:
            self.states[name, shape] = make()
        return self.states[name, shape]


def tools(name: str = "it", *, seed: int = 1, secret: bytes = b"key", clock=None, state=None):
    """What the house lends to a plugin."""
    return Tools(
        name=name,
        clock=clock or Clock(),
        random=random.Random(seed),
        state=state or Shelf(),
        secret=secret,
    )


def decision(*picked: Endpoint, profile: str = "default", others=()) -> Decision:
    """A decision for these endpoints; `others` are `(profile, endpoint)` pairs."""
    return Decision(
        request_id="r1",
        primary=ProfileResult(profile=profile, picked=picked),
        others=tuple(ProfileResult(profile=name, picked=(each,)) for name, each in others),
    )
