"""Two pickers and one lease: who is ready, who takes over, and what the other one still answers."""

import asyncio
import datetime as dt
import signal
from contextlib import asynccontextmanager

import grpc
import pytest
from support.cluster_pickers import cluster_picker, until
from support.kube_api import TOKEN, kube_api
from support.kube_objects import pod, pool


def terms(lease, deadline):
    """Flags of an election, in seconds."""
    return (
        "--ha-enable-leader-election",
        f"--leader-elect-lease-duration={lease}s",
        f"--leader-elect-renew-deadline={deadline}s",
        "--leader-elect-retry-period=300ms",
    )


SHORT = 8
SHORT_LEASE = terms(SHORT, 7)
"""Over soon after the leader is gone."""
LONG_LEASE = terms(300, 200)
"""Over after no test's patience: who leads has been handed the lease, or had it from the first."""
SLOW_TO_FOLLOW = terms(15, 3)
"""A leader gives up long before its lease is over."""
LEASE = "epp-default-pool.llm-d.ai"
LABEL = "llm-d.ai/epp-leader"


@pytest.fixture
async def server():
    async with kube_api() as made:
        made.put(pool())
        made.put(pod("a", "127.0.0.1"))
        yield made


@asynccontextmanager
async def pair(server, folder, *flags, election=LONG_LEASE):
    """A leader and a follower, each with a token of its own."""
    configs = []
    for name in ("one", "two"):
        (folder / name).mkdir()
        token = f"{TOKEN}-{name}"
        server.tokens.add(token)
        configs.append(server.kubeconfig(folder / name, token))
    async with cluster_picker(configs[0], *election, *flags, name="epp-0") as first:
        await until(lambda: holds(server, "epp-0"))
        async with cluster_picker(configs[1], *election, *flags, name="epp-1") as second:
            await until(lambda: sees_pods(second))
            yield first, second


async def holds(server, name):
    lease = server.get("leases", LEASE)
    return lease is not None and lease["spec"]["holderIdentity"].startswith(f"{name}_")


async def sees_pods(picker):
    return await picker.destination() == "127.0.0.1:8000"


async def is_no_longer_ready(picker):
    return not await picker.health()


def stamp(server, name):
    """One of the lease's times."""
    text = server.get("leases", LEASE)["spec"][name]
    return dt.datetime.fromisoformat(text)


async def test_one_of_two_is_ready_and_the_other_answers_all_the_same(server, tmp_path):
    async with pair(server, tmp_path) as (leader, follower):
        await until(leader.health)

        assert not await follower.health()
        assert await follower.health("liveness")
        assert await sees_pods(follower)


async def test_a_clean_stop_hands_over_within_a_retry(server, tmp_path):
    async with pair(server, tmp_path) as (leader, follower):
        await until(leader.health)
        leader.process.send_signal(signal.SIGTERM)
        await until(follower.health)

        assert await leader.ended() == 0
        assert "lease released" in leader.log_text()
        assert server.get("leases", LEASE)["spec"]["leaseTransitions"] == 1
        assert {event["reason"] for event in server.all("events")} == {"LeaderElection"}


@pytest.mark.slow
async def test_who_is_on_its_way_out_answers_until_its_follower_is_ready(server, tmp_path):
    server.put(pod("epp-1", "10.9.9.9", app="epp", ready=False))
    async with pair(server, tmp_path, "--drain-timeout=30s") as (leader, follower):
        await until(leader.health)
        leader.process.send_signal(signal.SIGTERM)
        await until(follower.health)
        assert await sees_pods(leader)

        server.put(pod("epp-1", "10.9.9.9", app="epp"))
        assert await leader.ended() == 0
        assert "nobody else has taken over" not in leader.log_text()


@pytest.mark.slow
async def test_a_killed_leader_is_followed_when_its_lease_is_over(server, tmp_path):
    async with pair(server, tmp_path, election=SHORT_LEASE) as (leader, follower):
        await until(leader.health)
        renewed = stamp(server, "renewTime")
        await leader.end(signal.SIGKILL)
        await until(follower.health)

        waited = stamp(server, "acquireTime") - renewed
        assert waited.total_seconds() >= SHORT


@pytest.mark.slow
async def test_a_leader_cut_off_steps_down_first_and_lives_on_as_a_follower(server, tmp_path):
    async with pair(server, tmp_path, election=SLOW_TO_FOLLOW) as (leader, follower):
        await until(leader.health)
        server.tokens.discard(f"{TOKEN}-one")
        await until(lambda: is_no_longer_ready(leader))
        assert not await follower.health()

        await until(follower.health)
        assert await leader.health("liveness")
        assert await sees_pods(leader)

        server.tokens.add(f"{TOKEN}-one")
        await follower.end()
        await until(leader.health)


@pytest.mark.slow
async def test_gateways_are_let_go_by_a_leader_that_another_has_followed(server, tmp_path):
    """On our own wire whatever the suite runs on: grpc ends connections only with its server."""
    server.put(pod("epp-1", "10.9.9.9", app="epp"))
    async with pair(server, tmp_path, "--wire=http2", election=SHORT_LEASE) as (leader, follower):
        await until(leader.health)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{leader.ports['grpc']}") as gateway:
            await gateway.channel_ready()
            server.tokens.discard(f"{TOKEN}-one")
            await until(follower.health)
            assert gateway.get_state() is grpc.ChannelConnectivity.READY

            server.tokens.add(f"{TOKEN}-one")
            async with asyncio.timeout(45):
                await gateway.wait_for_state_change(grpc.ChannelConnectivity.READY)
            assert await sees_pods(leader)


@pytest.mark.slow
async def test_with_a_label_both_are_ready_and_the_leader_bears_it(server, tmp_path):
    for name in ("epp-0", "epp-1"):
        server.put(pod(name, "10.9.9.9", app="epp"))
    server.put(pod("elsewhere", "10.9.9.8", app="epp", labels={LABEL: "another-pool"}))
    async with pair(server, tmp_path, f"--leader-label={LABEL}", election=SHORT_LEASE) as (
        leader,
        follower,
    ):
        await until(leader.health)
        await until(follower.health)
        await until(lambda: bears_it(server, "epp-0"))

        await leader.end(signal.SIGKILL)
        await until(lambda: bears_it(server, "epp-1"))
        assert labels(server, "elsewhere") == {"app": "epp", LABEL: "another-pool"}


async def bears_it(server, name):
    """That pod alone."""
    return [n for n in ("epp-0", "epp-1") if labels(server, n).get(LABEL) == "pool"] == [name]


def labels(server, name):
    return server.get("pods", name)["metadata"]["labels"]


async def test_a_lease_that_may_not_be_had_costs_readiness_and_says_so(server, tmp_path):
    server.forbidden = {("get", "leases")}
    async with cluster_picker(server.kubeconfig(tmp_path), *LONG_LEASE) as picker:
        await until(lambda: sees_pods(picker))

        await until(lambda: asked_for_leases(server, 4))
        assert not await picker.health()
        assert await picker.health("liveness")
        assert picker.log_text().count("may not get leases") == 1


async def asked_for_leases(server, times):
    return server.requests["get", "leases"] >= times


async def test_the_other_familys_lease_is_taken_by_name(server, tmp_path):
    name = "epp-default-pool.gateway-api-inference-extension.sigs.k8s.io"
    flag = f"--leader-elect-resource-name={name}"
    async with cluster_picker(server.kubeconfig(tmp_path), *LONG_LEASE, flag) as picker:
        await until(picker.health)

        assert server.get("leases", name)["spec"]["holderIdentity"].startswith("epp-0_")
