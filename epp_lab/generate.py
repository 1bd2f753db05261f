"""Made-up traffic: shared prefixes, and sessions of several turns.

Parameters of prompts, answers and stages are named as inference-perf names them; docs/lab.md has
the table of what carries over. Each kind gives jobs at a rate of requests in a second; one random
stream, one list of jobs.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, count, islice, repeat
from typing import Annotated, Literal

import msgspec
from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from epp_lab.job import Job, Segment, chained
from epp_lab.lengths import Spread, spread
from epp_lab.load import Load

Length = Annotated[Spread, BeforeValidator(spread)]
MOST_MODEL_TOKENS = 131_072


def pair(value: object) -> object:
    """`{name, split}` becomes a pair; anything else stays for pydantic to judge."""
    if isinstance(value, Mapping) and set(value) == {"name", "split"}:
        return (value["name"], value["split"])
    return value


Adapter = Annotated[tuple[str, Annotated[float, Field(ge=0.0)]], BeforeValidator(pair)]


class Generator(Load):
    """What all kinds share: how requests come, and which adapter each asks for."""

    lora_traffic_split: tuple[Adapter, ...] = ()
    """Adapters and their shares of the traffic; empty: the base model."""
    seed: int = 0
    """Mixed into the seed of a run; 0: the run's alone."""

    @model_validator(mode="after")
    def _some_adapter_is_asked_for(self) -> Generator:
        if self.lora_traffic_split and not sum(split for _, split in self.lora_traffic_split):
            raise ValueError("lora_traffic_split: every split is 0; give one above")
        return self

    def _random(self, rng: random.Random) -> random.Random:
        return random.Random(f"{self.seed} {rng.random()}") if self.seed else rng

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
    num_groups: int = Field(
        ge=1, validation_alias=AliasChoices("num_groups", "num_unique_system_prompts")
    )
    num_prompts_per_group: int = Field(
        ge=1, validation_alias=AliasChoices("num_prompts_per_group", "num_users_per_system_prompt")
    )
    system_prompt_len: Length
    question_len: Length
    output_len: Length
    order: Literal["cyclic", "random", "zipf"] = "cyclic"
    zipf_exponent: float = Field(1.0, gt=0.0)
    fresh_questions: bool = False
    """Every question is asked once only; the prompts of a group share its system prompt alone."""
    enable_multi_turn_chat: bool = False
    """Every prompt is a user, who asks again with all that was said before; see `_chats`."""
    max_model_len: int = Field(MOST_MODEL_TOKENS, ge=1)
    """A chat that would grow beyond it begins anew."""

    @model_validator(mode="after")
    def _chats_are_open(self) -> SharedPrefix:
        if self.enable_multi_turn_chat and self.arrivals == "concurrent":
            raise ValueError(
                "enable_multi_turn_chat: not with arrivals: concurrent; take kind: "
                "conversation_replay, whose sessions one worker holds"
            )
        return self

    def jobs(self, requests: int, rate: float, rng: random.Random) -> list[Job]:
        """`requests` jobs at `rate`; of chats the first turns, the later ones hang from them."""
        rng = self._random(rng)
        content = count(1)
        prompts = self._prompts(rng, content)
        order = self._order(len(prompts), rng)
        found = []
        asked: dict[int, list[Job]] = {}
        for at in self.when(requests, rate, rng):
            number = next(order)
            group, prompt = prompts[number]
            if self.fresh_questions:
                prompt = (prompt[0], (next(content), prompt[1][1]))
            found.append(self._job(at, group, prompt, rng))
            asked.setdefault(number, []).append(found[-1])
        if not self.enable_multi_turn_chat:
            return found
        chats = [chat for user in asked.values() for chat in self._chats(user, content)]
        return sorted(chats, key=lambda job: job.arrival)

    def _chats(self, turns: Sequence[Job], content: Iterator[int]) -> Iterator[Job]:
        """One user's requests as chats: each when it is due, but not before the last answer."""
        said: list[Segment] = []
        chat: list[Job] = []
        for turn in turns:
            system, question = turn.prompt
            answer = (next(content), turn.output_tokens)
            asked = [*said, (next(content), question[1])] if chat else [system, question]
            if chat and tokens((*asked, answer)) > self.max_model_len:
                yield chained(chat)
                chat, asked = [], [system, question]
            due = {"arrival": 0.0, "not_before": turn.arrival} if chat else {}
            fields = {"prompt": tuple(asked), "answer": answer[0], **due}
            chat.append(msgspec.structs.replace(turn, **fields))
            said = [*asked, answer]
        yield chained(chat)

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


def tokens(said: Sequence[Segment]) -> int:
    """How long it is."""
    return sum(length for _, length in said)


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
    num_conversations: int = Field(0, ge=0, le=1_000_000)
    """So many different ones; once all are held, they are held again. 0: no two are alike."""

    def jobs(self, requests: int, rate: float, rng: random.Random) -> list[Job]:
        """First turns of about `requests` jobs in all; later turns hang from them."""
        rng = self._random(rng)
        sessions: list[Job] = []
        turns = 0
        for session in self._sessions(rng):
            sessions.append(session)
            turns += session.turns
            if self._enough(turns, len(sessions), requests):
                break
        begin = self.when(len(sessions), rate * len(sessions) / turns, rng)
        return [
            msgspec.structs.replace(s, arrival=at) for s, at in zip(sessions, begin, strict=True)
        ]

    def _enough(self, turns: int, sessions: int, requests: int) -> bool:
        """Workers of a closed load hold so many sessions, whatever their turns."""
        return (sessions if self.levels else turns) >= requests

    def _sessions(self, rng: random.Random) -> Iterator[Job]:
        content = count(1)
        shared = (next(content), self.shared_system_prompt_len.tokens(rng))
        fresh = (self._session(shared, f"session-{n}", content, rng) for n in count())
        if not self.num_conversations:
            yield from fresh
        held = list(islice(fresh, self.num_conversations))
        for again in repeat(held):
            yield from again

    def _session(
        self, shared: Segment, name: str, content: Iterator[int], rng: random.Random
    ) -> Job:
        said: list[Segment] = [shared, (next(content), self.dynamic_system_prompt_len.tokens(rng))]
        model = self._model(rng)
        turns: list[Job] = []
        for _ in range(self.turns_per_conversation.tokens(rng)):
            said.append((next(content), self.input_tokens_per_turn.tokens(rng)))
            answer = (next(content), self.output_tokens_per_turn.tokens(rng))
            if tokens(said) + answer[1] > self.max_model_len and turns:
                break
            turns.append(self._turn(said, answer, name, rng))
            said.append(answer)
        return chained(turns, **model)

    def _turn(self, said: list[Segment], answer: Segment, name: str, rng: random.Random) -> Job:
        return Job(
            arrival=max(self.tool_call_latency_sec.draw(rng), 0.0),
            prompt=tuple(said),
            output_tokens=answer[1],
            answer=answer[0],
            tenant=name,
        )
