"""What is asked for: one request of a workload, before anybody has placed it.

Prompts have no text. They are segments of made-up content: two prompts share a prefix as far as
their segments agree, and that is all a cache can tell.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from epp.domain.request import Prompt
from epp.domain.workload import USUAL
from epp.tokens.blocks import block_keys, chain_seed

Segment: TypeAlias = tuple[int, int]
"""A number that stands for some content (0..2**32-1), and its length in tokens."""

WORD: Final = struct.Struct("=I")


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One request as a client would send it; times in seconds of virtual time."""

    arrival: float
    prompt: tuple[Segment, ...]
    output_tokens: int
    answer: int = 0
    """Content of the answer where a later prompt repeats it; 0 where none does."""
    model: str = "lab"
    """What is asked for: the base model or an adapter."""
    adapter: bool = False
    """Whether `model` names a LoRA adapter."""
    tenant: str = ""
    priority: int = 0
    workload: str = ""
    criticality: int = USUAL
    """What the client says in `x-workload-context`, 1..5."""
    client_limit: int | None = None
    """`max_tokens` of the request, where the client sets it."""
    not_before: float = 0.0
    """A later turn waits for this time too, in seconds of the run."""
    then: Job | None = None
    """The next turn of the session; its `arrival` counts from the end of this one's answer."""

    @property
    def prompt_tokens(self) -> int:
        return sum(tokens for _, tokens in self.prompt)

    @property
    def turns(self) -> int:
        """This request and all that follow from it."""
        return len(turns_of(self))


def turns_of(job: Job) -> list[Job]:
    """The request and all that follow from it, in order."""
    found, following = [job], job.then
    while following is not None:
        found.append(following)
        following = following.then
    return found


def chained(turns: Sequence[Job], **fields: object) -> Job:
    """One session of these turns, with `fields` on each; the first is what is returned."""
    then: Job | None = None
    for turn in reversed(turns):
        then = msgspec.structs.replace(turn, then=then, **fields)
    if then is None:
        raise ValueError("a session has at least one turn")
    return then


def spelled(segments: Sequence[Segment]) -> array[int]:
    """Token ids that stand for the segments: each content is one word, repeated."""
    tokens = array("I")
    tokens.frombytes(b"".join([WORD.pack(content) * count for content, count in segments]))
    return tokens


def prompt_of(job: Job) -> Prompt:
    """What the picker sees."""
    return Prompt(token_ids=spelled(job.prompt))


def engine_keys(job: Job, prompt: Prompt, block_tokens: int) -> list[int]:
    """What the engine's cache knows the prompt by; the answer too, where it is repeated."""
    seed = chain_seed(job.model)
    if not job.answer:
        return block_keys(prompt, block_tokens, seed)
    whole = spelled((*job.prompt, (job.answer, max(job.output_tokens - 1, 0))))
    return block_keys(Prompt(token_ids=whole), block_tokens, seed)
