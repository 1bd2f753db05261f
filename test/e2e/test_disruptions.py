"""Model servers that die in prefill or in the middle of a stream, hang, or lose their metrics."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from support.cluster_api import Object, until
from support.suite import KEPT_ALIVE, MODEL_SERVER, Suite, completion, traffic

# A page of the picker, which only its own pod can reach.
PAGE = "http://127.0.0.1:9091/debug/endpoints"
READ = f"import urllib.request as r; print(r.urlopen('{PAGE}').read().decode())"
SETTLE_SECONDS = 3.0
TOKENS = 600


async def endpoints(suite: Suite) -> dict[str, Object]:
    """What the picker believes of each model server, by pod."""
    words = ["python", "-c", READ]
    code, said, failure = await suite.cluster.run(suite.namespace, await suite.picker(), words)
    assert code == 0, failure
    return {row["name"].removesuffix("-rank-0"): row for row in json.loads(said)["endpoints"]}


async def until_nothing_is_in_flight(suite: Suite) -> None:
    async def idle() -> bool:
        return not any(row["inflight_requests"] for row in (await endpoints(suite)).values())

    await until(idle, 30, "requests that nobody answers any more count as in flight")


async def in_flight(suite: Suite) -> dict[str, int]:
    rows = await endpoints(suite)
    return {pod: row["inflight_requests"] for pod, row in rows.items()}


async def faults(suite: Suite, pod: Object, **chosen: object) -> None:
    """Break a simulator in some way; `clear=True` mends it."""
    url = f"http://{pod['status']['podIP']}:8000/sim/faults"
    reply = await suite.curl(url, {"Content-Type": "application/json"}, json.dumps(chosen))
    assert reply.status == 200, reply.body


@pytest.fixture(name="servers")
async def three_servers(suite: Suite) -> AsyncIterator[list[Object]]:
    """The three model servers, ready and healthy, before and after."""
    await suite.cluster.until_available(suite.namespace, MODEL_SERVER, 120)
    yield await suite.cluster.pods(suite.namespace, MODEL_SERVER)
    await suite.cluster.until_available(suite.namespace, MODEL_SERVER, 120)
    for pod in await suite.cluster.pods(suite.namespace, MODEL_SERVER):
        await faults(suite, pod, clear=True)


def kill(suite: Suite, pod: str, number: int = signal.SIGKILL) -> None:
    suite.cluster.node.pod(suite.namespace, pod).containers["vllm-sim"].signal(number)


@dataclass
class Streamed:
    """One streamed answer as its client saw it."""

    pod: str = ""
    whole: bool = False


@asynccontextmanager
async def client(suite: Suite) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(await suite.gateway(), timeout=timeout) as http:
        yield http


async def stream(http: aiohttp.ClientSession, seen: Streamed, nonce: str) -> None:
    body = completion(nonce, stream=True, max_tokens=TOKENS, ignore_eos=True)
    async with http.post("/v1/completions", json=body, headers=KEPT_ALIVE) as answer:
        seen.pod = answer.headers.get("x-inference-pod", "")
        try:
            text = await answer.text()
        except aiohttp.ClientError:
            return
        seen.whole = text.rstrip().endswith("data: [DONE]")


async def test_a_server_killed_in_mid_stream_cuts_its_own_streams_alone(
    suite: Suite, servers: list[Object]
) -> None:
    seen = [Streamed() for _ in range(9)]
    async with client(suite) as http:
        streams = [stream(http, each, f"cut {n} {id(seen)}") for n, each in enumerate(seen)]
        running = asyncio.gather(*streams)
        await until(lambda: all_begun(seen), 20, "not every stream has begun")
        victim = seen[0].pod
        kill(suite, victim)
        await running

    print("streams whole, by pod:", sorted((each.pod, each.whole) for each in seen))
    assert {each.pod for each in seen} > {victim}
    assert all(each.whole == (each.pod != victim) for each in seen)
    await until_nothing_is_in_flight(suite)


async def all_begun(seen: list[Streamed]) -> bool:
    return all(each.pod for each in seen)


async def test_a_server_killed_in_prefill_fails_its_own_requests_at_once(
    suite: Suite, servers: list[Object]
) -> None:
    for pod in servers:
        await faults(suite, pod, stall=True)
    async with client(suite) as http:
        asked = [asyncio.create_task(ask(http, f"prefill {n} {id(servers)}")) for n in range(6)]

        async def all_taken() -> bool:
            return sum((await in_flight(suite)).values()) == len(asked)

        await until(all_taken, 20, "not every request has been taken")
        counts = await in_flight(suite)
        victim = max(counts, key=lambda pod: counts[pod])
        doomed = counts[victim]
        kill(suite, victim)
        killed = time.monotonic()
        failed = await first(asked, doomed)
        heard = time.monotonic() - killed
        for pod in servers:
            if pod["metadata"]["name"] != victim:
                await faults(suite, pod, stall=False)
        replies = await asyncio.gather(*asked)

    print(f"killed in prefill: {failed} after {heard:.2f} s, all {sorted(replies)}")
    assert heard < SETTLE_SECONDS
    assert sorted(replies) == [200] * (len(asked) - doomed) + failed
    assert set(failed) <= {502, 503}
    await until_nothing_is_in_flight(suite)


async def ask(http: aiohttp.ClientSession, nonce: str) -> int:
    async with http.post("/v1/completions", json=completion(nonce), headers=KEPT_ALIVE) as answer:
        await answer.read()
        return answer.status


async def first(tasks: list["asyncio.Task[int]"], count: int) -> list[int]:
    """What the first so many came to, sorted."""
    done = []
    for each in asyncio.as_completed(tasks):
        done.append(await each)
        if len(done) == count:
            break
    return sorted(done)


async def test_a_server_that_hangs_keeps_no_more_than_it_has_taken(
    suite: Suite, servers: list[Object]
) -> None:
    victim = servers[0]["metadata"]["name"]
    async with traffic(await suite.gateway(), clients=4) as before:
        await asyncio.sleep(1)
        kill(suite, victim, signal.SIGSTOP)
        try:
            await asyncio.sleep(SETTLE_SECONDS)
            async with traffic(await suite.gateway(), clients=4) as during:
                await asyncio.sleep(4)
        finally:
            kill(suite, victim, signal.SIGCONT)
        await suite.cluster.until_available(suite.namespace, MODEL_SERVER, 60)
        await asyncio.sleep(SETTLE_SECONDS)
        back = before.since(time.monotonic() - SETTLE_SECONDS)

    print(f"hung for 7 s: those before {before.told()}; those that came meanwhile {during.told()}")
    assert (before.lost, during.lost) == ([], [])
    assert set(during.pods) == {each["metadata"]["name"] for each in servers} - {victim}
    assert during.gap < 2
    assert len(back) == 3


@pytest.mark.parametrize("how", ["error", "hang", "empty"])
async def test_a_server_without_metrics_is_asked_last_and_costs_nothing(
    suite: Suite, servers: list[Object], how: str
) -> None:
    victim = servers[0]["metadata"]["name"]
    async with traffic(await suite.gateway(), clients=4) as seen:
        await faults(suite, servers[0], metrics=how)

        async def is_fresh(wanted: bool) -> bool:
            return (await endpoints(suite))[victim]["fresh"] is wanted

        await until(lambda: is_fresh(False), 20, "the picker believes what it cannot see")
        await asyncio.sleep(1)
        blind = time.monotonic()
        await asyncio.sleep(2)
        used = seen.since(blind)
        await faults(suite, servers[0], clear=True)
        await until(lambda: is_fresh(True), 20, "the picker does not see it again")
        mended = time.monotonic()

        async def is_asked() -> bool:
            return victim in seen.since(mended)

        await until(is_asked, 20, "it is not asked again")

    print(f"metrics {how}: {seen.told()}, meanwhile {dict(used)}")
    assert seen.lost == [], seen.told()
    assert sum(used.values()) > 0
    assert used[victim] <= sum(used.values()) // 5


async def test_a_page_of_metrics_that_breaks_off_costs_nothing(
    suite: Suite, servers: list[Object]
) -> None:
    async with traffic(await suite.gateway(), clients=4) as seen:
        for pod in servers:
            await faults(suite, pod, metrics="broken")
        await asyncio.sleep(3)

    print(f"metrics broken everywhere: {seen.told()}")
    assert seen.lost == [], seen.told()
    assert len(seen.pods) == len(servers)
