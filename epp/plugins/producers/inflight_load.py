"""The producer of tokens in flight."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.decision import Decision
from epp.domain.pool import Column, Floats, PoolView
from epp.domain.request import Request
from epp.domain.response import Ending
from epp.points import Tools


class ExpectedOutput:
    """Output tokens expected of the requests in flight, by slot."""

    def __init__(self) -> None:
        self._by_slot: Floats = np.zeros(16)
        self._open: dict[str, tuple[int, float]] = {}

    def of(self, slots: Column) -> Floats:
        """Shape of `slots`."""
        self._grow(int(slots.max(initial=0)))
        return self._by_slot[slots]

    def add(self, request_id: str, slot: int, tokens: float) -> None:
        self._grow(slot)
        self._by_slot[slot] += tokens
        self._open[request_id] = (slot, tokens)

    def remove(self, request_id: str) -> None:
        """Once for each request that was added; unknown ones change nothing."""
        slot, tokens = self._open.pop(request_id, (0, 0.0))
        self._by_slot[slot] = max(self._by_slot[slot] - tokens, 0.0)

    def on_removed(self, slot: int) -> None:
        """The endpoint has gone: what was open there is not held against the slot's next owner."""
        self._grow(slot)
        self._by_slot[slot] = 0.0
        self._open = {key: held for key, held in self._open.items() if held[0] != slot}

    def _grow(self, slot: int) -> None:
        if slot >= len(self._by_slot):
            more = slot + 1 - len(self._by_slot)
            self._by_slot = np.concatenate([self._by_slot, np.zeros(max(more, 64))])


class InflightLoadProducer:
    """inflight-load-producer: adds the output we expect to the tokens in flight.

    Formula: inflight_tokens + sum over open requests of round(prompt_tokens * outputRatio), bounded
    by the client's limit and maxEstimatedOutputTokens; nothing is added by default.
    Parameters: addEstimatedOutputTokens (default false), outputRatio (default 1.5),
    maxEstimatedOutputTokens (default none), prefixMatchInfoProducerName and syncCrossReplicaState
    (accepted, without effect).
    Reads: inflight_tokens, slots. Writes: inflight_tokens.
    Differs from the Go picker: requests and prompt tokens in flight are always counted, with or
    without this producer, under an id of our own, and released on every exit; prompt tokens are
    released at the first token even when output is added.
    Example:
        - type: inflight-load-producer
          parameters: {addEstimatedOutputTokens: true, maxEstimatedOutputTokens: 512}
    """

    type: ClassVar[str] = "inflight-load-producer"
    produces: ClassVar[tuple[str, ...]] = ()

    class Params(PluginParams):
        add_estimated_output_tokens: bool = False
        output_ratio: float = Field(1.5, ge=0.0)
        max_estimated_output_tokens: int | None = Field(None, ge=1)
        prefix_match_info_producer_name: str = ""
        sync_cross_replica_state: bool = True

    def __init__(self, params: Params, tools: Tools) -> None:
        self._params = params
        self._expected = tools.state.keep("expected output", ExpectedOutput)

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        if not self._params.add_estimated_output_tokens:
            return {}
        return {"inflight_tokens": pool.inflight_tokens + self._expected.of(pool.slots)}

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> None:
        if not self._params.add_estimated_output_tokens:
            return
        for row, endpoint in enumerate(pool.endpoints):
            if endpoint is decision.endpoint:
                self._expected.add(request.id, int(pool.slots[row]), self._output(request))

    def ended(self, request: Request, decision: Decision, ending: Ending) -> None:
        self._expected.remove(request.id)

    def _output(self, request: Request) -> float:
        output = float(round(request.prompt_tokens * self._params.output_ratio))
        for limit in (request.max_output_tokens, self._params.max_estimated_output_tokens):
            output = output if limit is None else min(output, limit)
        return output
