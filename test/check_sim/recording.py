"""Everything the check looks at on one server, as JSON: answers, metrics, counters, events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from check_sim.cases import all_cases
from check_sim.events import Ear, connected, kept, listen, script
from check_sim.exchange import look
from check_sim.metrics_page import page_of, samples_of

if TYPE_CHECKING:
    import aiohttp

Recording = dict[str, Any]

COUNTED = (
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:prompt_tokens_total",
    "vllm:prompt_tokens_by_source_total",
    "vllm:prompt_tokens_cached_total",
    "vllm:prompt_tokens_cached_by_source_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:num_preemptions_total",
    "vllm:time_to_first_token_seconds_count",
    "vllm:inter_token_latency_seconds_count",
    "vllm:request_time_per_output_token_seconds_count",
    "vllm:e2e_request_latency_seconds_count",
    "vllm:request_queue_time_seconds_count",
    "vllm:request_prompt_tokens_sum",
    "vllm:request_generation_tokens_sum",
    "vllm:request_max_num_generation_tokens_sum",
    "vllm:request_params_max_tokens_sum",
    "vllm:request_params_n_sum",
    "vllm:request_prefill_kv_computed_tokens_sum",
    "vllm:request_num_preemptions_count",
    "vllm:iteration_tokens_total_sum",
)
"""What the events' requests must have added to, by the same amounts on both servers."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens, where its events come from, where they are asked for again."""

    url: str
    events: str
    replay: str


async def record(session: aiohttp.ClientSession, place: Place, adapter_folder: str) -> Recording:
    """Plays every case to a server that has just started."""
    ear = Ear(place.events, place.replay)
    try:
        await connected(session, place.url, ear)
        before = await counters(session, place.url)
        heard = await listen(session, place.url, ear, script(adapter_folder))
        added = _added(before, await counters(session, place.url))
    finally:
        ear.close()
    answers = {
        case.name: await look(session, place.url, case) for case in all_cases(adapter_folder)
    }
    return {
        "events": kept(heard),
        "counters": added,
        "answers": answers,
        "metrics": page_of(await page(session, place.url)),
    }


async def page(session: aiohttp.ClientSession, url: str) -> str:
    async with session.get(f"{url}/metrics") as answer:
        return await answer.text()


async def counters(session: aiohttp.ClientSession, url: str) -> dict[str, float]:
    """The samples of COUNTED, named with the values of their labels of kinds."""
    text = await page(session, url)
    return {
        "/".join([name.removeprefix("vllm:"), *kinds]): value
        for name in COUNTED
        for kinds, value in samples_of(text, name).items()
    }


def _added(before: dict[str, float], after: dict[str, float]) -> dict[str, str]:
    return {name: f"{value - before.get(name, 0):g}" for name, value in after.items()}
