"""Three pickers: one leads and is ready, another takes over, and what a client sees of it."""

import asyncio
import time

from support.cluster_api import until
from support.control_plane import API_IP
from support.suite import PICKER, Suite, completion, traffic

LEASE_SECONDS = 15.0
PROBE_SECONDS = 10.0


async def test_one_of_three_is_ready(suite: Suite) -> None:
    pods = await suite.cluster.pods(suite.namespace, PICKER)
    ready = await suite.cluster.ready(suite.namespace, PICKER)

    assert (len(pods), len(ready)) == (3, 1)


async def test_the_lease_names_the_leader(suite: Suite) -> None:
    leader = await suite.picker()
    leases = await suite.cluster.api.list("Lease", suite.namespace)

    holders = {each["spec"]["holderIdentity"] for each in leases}
    assert any(holder.startswith(leader) for holder in holders), holders


async def successor(suite: Suite, leader: str, seconds: float) -> tuple[str, float]:
    """The next ready picker, and how long it took until it was."""
    begun = time.monotonic()

    async def other() -> str:
        ready = await suite.cluster.ready(suite.namespace, PICKER)
        names = [pod["metadata"]["name"] for pod in ready]
        return names[0] if len(names) == 1 and names[0] != leader else ""

    name = await until(other, seconds, f"nobody follows {leader}")
    return name, time.monotonic() - begun


async def works(suite: Suite) -> None:
    reply = await suite.post("/v1/completions", completion(f"after {time.monotonic()}"))
    assert reply.status == 200, reply.body


async def until_three(suite: Suite) -> None:
    async def three() -> bool:
        pods = await suite.cluster.pods(suite.namespace, PICKER)
        running = [pod for pod in pods if pod["status"].get("phase") == "Running"]
        return len(running) == 3 and len(await suite.cluster.ready(suite.namespace, PICKER)) == 1

    await until(three, 120, "not three pickers with one ready")


async def test_a_leader_that_is_deleted_hands_over(suite: Suite) -> None:
    leader = await suite.picker()
    async with traffic(await suite.gateway(), clients=2) as seen:
        await asyncio.sleep(1)
        await suite.cluster.api.delete("Pod", leader, suite.namespace)
        name, seconds = await successor(suite, leader, 60)
        await asyncio.sleep(5)

    print(f"clean stop: next leader ready after {seconds:.1f} s; {seen.told()}")
    assert name != leader
    await works(suite)
    await until_three(suite)


async def test_a_leader_that_is_killed_is_followed_when_its_lease_has_run_out(
    suite: Suite,
) -> None:
    leader = await suite.picker()
    runner = suite.cluster.node.pod(suite.namespace, leader)
    async with traffic(await suite.gateway(), clients=2) as seen:
        await asyncio.sleep(1)
        # The whole pod goes at once: nothing restarts in its place, nothing is released.
        await suite.cluster.api.delete("Pod", leader, suite.namespace, grace=0)
        runner.containers["epp"].signal(9)
        _, seconds = await successor(suite, leader, 90)
        await asyncio.sleep(5)

    print(f"killed leader: next leader ready after {seconds:.1f} s; {seen.told()}")
    assert seconds <= LEASE_SECONDS + 2 * PROBE_SECONDS
    await works(suite)
    await until_three(suite)


async def test_a_leader_without_the_api_server_steps_down_and_lives(suite: Suite) -> None:
    leader = await suite.picker()
    runner = suite.cluster.node.pod(suite.namespace, leader)
    assert runner.network is not None
    async with traffic(await suite.gateway(), clients=2) as seen:
        await runner.network.cut(API_IP)
        try:
            name, seconds = await successor(suite, leader, 90)
        finally:
            await runner.network.mend(API_IP)
        # It learns who leads now, and lets the gateway go there.
        await until(lambda: has_let_go(suite, leader), 60, "the former leader keeps its gateway")
        await asyncio.sleep(3)

    pods = await suite.cluster.pods(suite.namespace, PICKER)
    restarts = {
        pod["metadata"]["name"]: pod["status"]["containerStatuses"][0]["restartCount"]
        for pod in pods
    }
    print(f"leader without API server: next leader ready after {seconds:.1f} s; {seen.told()}")
    assert seen.lost == [], seen.told()
    assert name != leader
    assert restarts[leader] == 0
    await works(suite)
    await until_three(suite)


async def has_let_go(suite: Suite, picker: str) -> bool:
    return "connections are let go" in await suite.cluster.log(suite.namespace, picker)


async def test_traffic_goes_on_without_an_api_server(suite: Suite) -> None:
    plane = suite.cluster.plane
    async with traffic(await suite.gateway(), clients=2) as seen:
        await asyncio.sleep(1)
        await plane.stop("kube-apiserver")
        stopped = time.monotonic()
        await asyncio.sleep(60)
        await plane.start("kube-apiserver")
        await until_three(suite)

    print(f"API server away for {time.monotonic() - stopped:.0f} s: {seen.told()}")
    assert seen.lost == [], seen.told()
