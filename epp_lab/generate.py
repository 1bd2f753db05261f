"""Made-up traffic: shared prefixes, and sessions of several turns.

Parameters are named as inference-perf names them, so that its files can be carried over. Each kind
gives jobs at a rate of requests in a second; one random stream, one list of jobs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate, count
from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from epp_lab.arrivals import Kind, times
from epp_lab.job import Job, Segment
from epp_lab.lengths import Spread, spread

Length = Annotated[Spread, BeforeValidator(spread)]
MOST_MODEL_TOKENS = 131_072


class Generator(BaseModel):
    """What all kinds share: how requests arrive, and which adapter each asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arrivals: Kind = "poisson"
    lora_traffic_split: tuple[tuple[str, float], ...] = ()
    """Adapters and their shares of the traffic; empty: the base model."""

    def _model(self, rng: random.Random) -> dict[str, object]:
        if not self.lora_traffic_split:
            return {}
        names, shares = zip(*self.lora_traffic_split, strict=True)
        name = rng.choices(names, shares)[0]
        return {"model": name, "adapter": True, "tenant": name}


class SharedPrefix(Generator):
    """Groups that share a system prompt; every group has a few prompts, each asked many times.

    `cyclic` goes through the shuffled list of prompts again and again, so that the distance of
    re-use is constant, the worst case of an LRU; `random` draws; `zipf` draws groups by popularity.
    """

    kind: Literal["shared_prefix"] = "shared_prefix"
    num_groups: int = Field(ge=1)
    num_prompts_per_group: int = Field(ge=1)
    system_prompt_len: Length
    question_len: Length
    output_len: Length
    order: Literal["cyclic", "random", "zipf"] = "cyclic"
    zipf_exponent: float = Field(1.0, gt=0.0)
    fresh_questions: bool = False
    """Every question is asked once only; the prompts of a group share its system prompt alone."""

    def jobs(self, requests: int, rate: float, rng: random.Random) -> list[Job]:
        """`requests` jobs at `rate`."""
        content = count(1)
        prompts = self._prompts(rng, content)
        order = self._order(len(prompts), rng)
        found = []
        for at in times(self.arrivals, requests, rate, rng):
            group, prompt = prompts[next(order)]
            if self.fresh_questions:
                prompt = (prompt[0], (next(content), prompt[1][1]))
            found.append(self._job(at, group, prompt, rng))
        return found

    def _job(self, at: float, group: int, prompt: tuple[Segment, ...], rng: random.Random) -> Job:
        job = Job(
            arrival=at,
            prompt=prompt,
            output_tokens=self.output_len.tokens(rng),
            tenant=f"group-{group}",
        )
        return msgspec.structs.replace(job, **self._model(rng))

    def _prompts(
        self, rng: random.Random, content: Iterator[int]
    ) -> list[tuple[int, tuple[Segment, ...]]]:
        found: list[tuple[int, tuple[Segment, ...]]] = []
        for group in range(self.num_groups):
            system = (next(content), self.system_prompt_len.tokens(rng))
            found += [
                (group, (system, (next(content), self.question_len.tokens(rng))))
                for _ in range(self.num_prompts_per_group)
            ]
        return found

    def _order(self, prompts: int, rng: random.Random) -> Iterator[int]:
        if self.order == "cyclic":
            numbers = list(range(prompts))
            rng.shuffle(numbers)
            while True:
                yield from numbers
        weights = [1.0] * self.num_groups
        if self.order == "zipf":
            weights = [1 / (rank + 1) ** self.zipf_exponent for rank in range(self.num_groups)]
        heights, groups = list(accumulate(weights)), range(self.num_groups)
        while True:
            group = rng.choices(groups, cum_weights=heights)[0]
            yield group * self.num_prompts_per_group + rng.randrange(self.num_prompts_per_group)


class ConversationReplay(Generator):
    """Sessions: each turn repeats all that was said before, after a time of thinking.

    Sessions arrive at the rate that gives the asked rate of requests; a turn comes
    `tool_call_latency_sec` after the answer before it, so a slow pool is asked later.
    """

    kind: Literal["conversation_replay"] = "conversation_replay"
    shared_system_prompt_len: Length
    dynamic_system_prompt_len: Length
    turns_per_conversation: Length
    input_tokens_per_turn: Length
    output_tokens_per_turn: Length
    tool_call_latency_sec: Length
    max_model_len: int = MOST_MODEL_TOKENS

    def jobs(self, requests: int, rate: float, rng: random.Random) -> list[Job]:
        """First turns of about `requests` jobs in all; later turns hang from them."""
        content = count(1)
        shared = (next(content), self.shared_system_prompt_len.tokens(rng))
        sessions: list[Job] = []
        turns = 0
        while turns < requests:
            sessions.append(self._session(shared, f"session-{len(sessions)}", content, rng))
            turns += sessions[-1].turns
        begin = times(self.arrivals, len(sessions), rate * len(sessions) / turns, rng)
        return [
            msgspec.structs.replace(s, arrival=at) for s, at in zip(sessions, begin, strict=True)
        ]

    def _session(
        self, shared: Segment, name: str, content: Iterator[int], rng: random.Random
    ) -> Job:
        said: list[Segment] = [shared, (next(content), self.dynamic_system_prompt_len.tokens(rng))]
        model = self._model(rng)
        turns: list[Job] = []
        for _ in range(self.turns_per_conversation.tokens(rng)):
            said.append((next(content), self.input_tokens_per_turn.tokens(rng)))
            answer = (next(content), self.output_tokens_per_turn.tokens(rng))
            if sum(length for _, length in said) + answer[1] > self.max_model_len and turns:
                break
            turns.append(self._turn(said, answer, name, rng))
            said.append(answer)
        job = turns.pop()
        while turns:
            job = msgspec.structs.replace(turns.pop(), then=job)
        return _everywhere(job, model) if model else job

    def _turn(self, said: list[Segment], answer: Segment, name: str, rng: random.Random) -> Job:
        return Job(
            arrival=max(self.tool_call_latency_sec.draw(rng), 0.0),
            prompt=tuple(said),
            output_tokens=answer[1],
            answer=answer[0],
            tenant=name,
        )


def _everywhere(job: Job, fields: dict[str, object]) -> Job:
    """The same fields on every turn of a session."""
    following = None if job.then is None else _everywhere(job.then, fields)
    return msgspec.structs.replace(job, then=following, **fields)
