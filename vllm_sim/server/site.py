"""What every handler needs: the replica, the names, the answers, the faults."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from vllm_sim.server.errors import ApiError, bad_request
from vllm_sim.server.faults import Dice, Faults
from vllm_sim.server.fields import check_length
from vllm_sim.server.generation import Generation, Job
from vllm_sim.server.sse import EventStream
from vllm_sim.text import tokenizer
from vllm_sim.text.answers import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from aiohttp import web

    from vllm_sim.options import SimOptions
    from vllm_sim.server.clock import SimClock
    from vllm_sim.server.fields import Wishes
    from vllm_sim.server.generation import Listener
    from vllm_sim.server.models import Models
    from vllm_sim.server.remote import RemotePrefills
    from vllm_sim.server.replica import Replica


@dataclass(slots=True)
class Counts:
    """Requests by path, answers by status, and how they left."""

    paths: dict[str, int] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    in_flight: int = 0
    disconnects: int = 0

    def note(self, path: str) -> None:
        self.paths[path] = self.paths.get(path, 0) + 1

    def answered(self, status: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1


@dataclass(slots=True)
class Site:
    """One listening port: a replica and the state around it."""

    options: SimOptions
    clock: SimClock
    replica: Replica
    models: Models
    remote: RemotePrefills
    faults: Faults = field(default_factory=Faults)
    dice: Dice = field(default_factory=lambda: Dice(0))
    counts: Counts = field(default_factory=Counts)
    port: int = 0
    draining: bool = False
    frozen_page: str = ""
    peers: dict[int, Site] = field(default_factory=dict)
    _serial: int = 0

    @property
    def ranks(self) -> dict[int, Replica]:
        """The data-parallel ranks of this process, this port's own among them."""
        return {rank: site.replica for rank, site in self.peers.items()} or {
            self.replica.rank: self.replica
        }

    def _rank(self, request: web.Request) -> int:
        """The rank that X-data-parallel-rank asks for; what is no number counts as none."""
        wanted = request.headers.get("X-data-parallel-rank", "")
        if not (wanted.isascii() and wanted.isdigit()):
            return self.replica.rank
        if int(wanted) not in self.ranks:
            known = ", ".join(map(str, self.ranks))
            raise bad_request(f"data_parallel_rank {wanted[:20]} is none of {known}")
        return int(wanted)

    def stream(self, request: web.Request) -> EventStream:
        """An event stream, as the faults on streams want it."""
        stream = EventStream(request, {})
        if self.dice.hit(self.faults.reset_rate):
            stream.cut_after(self.faults.reset_after_tokens)
        if self.faults.slow_bytes:
            stream.trickle(self.faults.slow_bytes)
        return stream

    def request_id(self, request: web.Request) -> str:
        return request.headers.get("X-Request-Id") or uuid.uuid4().hex

    def answer(
        self,
        prompt: Sequence[int],
        wishes: Wishes,
        *,
        said: str = "",
        salt: int = 0,
    ) -> Answer:
        """What the model will say to the prompt; `said` is what echo mode repeats."""
        room = check_length(len(prompt), wishes.max_tokens, self.replica.model_len)
        limit = 1 if wishes.hold else wishes.max_tokens
        source = self.options.answers
        if self.options.mode == "echo" and not wishes.ignore_eos:
            answer = source.echo(said, limit=limit, room=room)
        else:
            answer = source.words(
                prompt,
                limit=limit,
                room=room,
                least=wishes.min_tokens,
                ignore_eos=wishes.ignore_eos,
                salt=salt,
                allowed=wishes.allowed,
            )
        return _stopped(answer, wishes.stop)

    def job(
        self,
        request: web.Request,
        prompt: Sequence[int],
        answer: Answer,
        wishes: Wishes,
        *,
        model: str,
        lora: str | None,
        request_id: str,
    ) -> Job:
        """The engine's view of a request."""
        self._serial += 1
        forced = request.headers.get("X-Cache-Threshold-Finish-Reason", "").lower() == "true"
        finish = "remote_decode" if wishes.hold else answer.finish_reason
        return Job(
            request_id=f"{request_id}-{self._serial}",
            prompt=prompt,
            answer=answer.tokens,
            finish_reason=finish,
            stop_text=answer.stop_text,
            model=model,
            lora=lora,
            lora_id=self.models.numbers.get(lora or ""),
            lora_path=self.models.path_of(lora),
            priority=self._priority(request, wishes),
            salt=wishes.salt,
            max_tokens=wishes.max_tokens,
            hold=wishes.hold,
            kv_source=wishes.transfer if wishes.remote else None,
            cache_hit_threshold=inf if forced else wishes.threshold,
            rank=self._rank(request),
        )

    def _priority(self, request: web.Request, wishes: Wishes) -> int:
        header = request.headers.get("X-Vllm-Priority")
        priority = wishes.priority
        if header is not None:
            try:
                priority = int(header)
            except ValueError:
                raise bad_request("X-Vllm-Priority must be an integer", "priority") from None
        refused = self.options.policy != "priority" and not self.replica.version.within((0, 32))
        if priority and refused:
            raise bad_request(
                "Got priority but the scheduling policy is fcfs; start with "
                "--scheduling-policy priority to use it.",
                "priority",
            )
        return priority

    @asynccontextmanager
    async def generating(
        self, jobs: Iterable[Job], listener: Listener | None = None
    ) -> AsyncIterator[list[Generation]]:
        """The jobs in the engine; whoever leaves early takes them out again."""
        generations: list[Generation] = []
        try:
            generations.extend(self.ranks[job.rank].submit(job, listener) for job in jobs)
            yield generations
        finally:
            for generation in generations:
                self.ranks[generation.job.rank].abort(generation)

    async def finished(self, generations: Sequence[Generation]) -> None:
        """Waits for all of them; tells the prefill replicas whose KV was read."""
        await asyncio.gather(*(generation.done for generation in generations))
        if any(generation.done.result() == "abort" for generation in generations):
            raise ApiError(500, "The request was aborted by the engine.")
        for generation in generations:
            self.remote.read(generation.job.kv_source)

    def transfer_params(self, generation: Generation) -> dict[str, Any] | None:
        """What a decode replica needs to fetch the KV of a held prefill; None otherwise."""
        job = generation.job
        if not job.hold:
            return None
        blocks = -(-len(job.prompt) // self.options.block_size)
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "remote_engine_id": self.ranks[job.rank].engine_id,
            "remote_block_ids": list(range(1, blocks + 1)),
            "remote_request_id": job.request_id,
            "remote_host": self.options.reachable,
            "remote_port": self._port_of(job.rank),
            "tp_size": 1,
            "remote_num_tokens": len(job.prompt),
        }

    def _port_of(self, rank: int) -> int:
        """Where that rank is told that its KV was read."""
        return self.peers[rank].port if self.peers else self.port

    def written_tokens(self, generation: Generation) -> int:
        """Tokens of the prompt's full blocks that were not in the cache before."""
        size = self.options.block_size
        return max(len(generation.job.prompt) // size * size - generation.cached_tokens, 0)

    def counts_of(self, generations: Sequence[Generation]) -> tuple[int, int, int]:
        """Tokens of the prompts, of all answers, and those of the prompts that were cached."""
        prompts = {id(generation.job.prompt): generation for generation in generations}
        prompt = sum(len(generation.job.prompt) for generation in prompts.values())
        completion = sum(generation.produced for generation in generations)
        cached = sum(generation.cached_tokens for generation in prompts.values())
        return prompt, completion, cached


def _stopped(answer: Answer, stops: Iterable[str]) -> Answer:
    """The answer up to the first stop text, cut at the token before it."""
    said = tokenizer.decode(answer.tokens)
    found = [(at, stop) for stop in stops if (at := said.find(stop)) >= 0]
    if not found:
        return answer
    at, stop = min(found)
    kept = max(at // tokenizer.BYTES_PER_TOKEN, 1)
    return Answer(answer.tokens[:kept], "stop", stop)
