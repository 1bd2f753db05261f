"""Following an API server over real sockets: what is shown is what it holds, whatever breaks."""

import asyncio
import random
import time
from contextlib import asynccontextmanager

import msgspec
import pytest
import structlog
from support.kube_api import kube_api
from support.kube_objects import NEW_GROUP, objective, pod

from epp.errors import ConfigError
from epp.kube.api import OBJECTIVES, PODS
from epp.kube.client import ClusterApi, connect
from epp.kube.follow import Follower
from epp.kube.objects import Objective, Pod
from epp.kube.reflector import Pace, Reflector, Trouble

QUICK = Pace(page=3, first_pause=0.01, longest_pause=0.1, absent_pause=0.1)


@asynccontextmanager
async def api_of(server, folder):
    api = await connect(structlog.get_logger(), {"KUBECONFIG": server.kubeconfig(folder)})
    try:
        yield api
    finally:
        await api.close()


@asynccontextmanager
async def following(server, folder, *, kind=PODS, of=Pod, silence=5.0, selector=""):
    """A follower of pods of the server, running."""
    async with api_of(server, folder) as api:
        made = follower(api, kind, of, silence, selector)
        task = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def follower(api, kind, of, silence, selector):
    selection = {"labelSelector": selector} if selector else {}
    decoder = msgspec.json.Decoder(of)
    return Follower(
        api,
        kind.path("default"),
        Reflector(decoder.decode, random.Random(1), QUICK, selection),
        lambda: None,
        clock=time.monotonic,
        log=structlog.get_logger(),
        silence=silence,
    )


async def until(true, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def shows(made, *names):
    return lambda: made.reflector.synced and set(made.reflector.objects) == set(names)


async def test_follows_pods_that_come_and_go(tmp_path):
    async with kube_api() as server:
        server.put(pod("a"))
        async with following(server, tmp_path) as made:
            await until(shows(made, "a"))
            server.put(pod("b"))
            await until(shows(made, "a", "b"))
            server.remove("pods", "a")
            await until(shows(made, "b"))


async def test_lists_in_pages(tmp_path):
    async with kube_api() as server:
        for number in range(8):
            server.put(pod(f"p{number}"))
        async with following(server, tmp_path) as made:
            await until(shows(made, *(f"p{number}" for number in range(8))))
            assert server.requests["list", "pods"] == 3


async def test_a_label_that_changes_takes_a_pod_out(tmp_path):
    async with kube_api() as server:
        server.put(pod("a"))
        async with following(server, tmp_path, selector="app=vllm") as made:
            await until(shows(made, "a"))
            server.put(pod("a", app="other"))
            await until(shows(made))


async def test_what_vanished_behind_a_compaction_is_gone(tmp_path):
    async with kube_api() as server:
        server.put(pod("a"))
        server.put(pod("b"))
        async with following(server, tmp_path) as made:
            await until(shows(made, "a", "b"))
            server.silent = True
            server.remove("pods", "a")
            server.compact()
            server.silent = False
            server.cut_watches()
            await until(shows(made, "b"))
            assert made.reflector.tally.relists["expired"] == 1


async def test_goes_on_after_the_server_was_restarted(tmp_path):
    async with kube_api() as server:
        server.put(pod("a"))
        async with following(server, tmp_path) as made:
            await until(shows(made, "a"))
            await server.stop()
            await until(lambda: made.reflector.trouble is Trouble.FAILING)
            assert set(made.reflector.objects) == {"a"}
            server.put(pod("b"))
            server.remove("pods", "a")
            await server.start()
            await until(shows(made, "b"))
            assert made.reflector.trouble is Trouble.NONE


async def test_a_server_that_stops_sending_is_noticed(tmp_path):
    async with kube_api() as server:
        server.put(pod("a"))
        async with following(server, tmp_path, silence=0.2) as made:
            await until(shows(made, "a"))
            server.silent = True
            server.put(pod("b"))
            await asyncio.sleep(0.1)
            assert set(made.reflector.objects) == {"a"}
            server.silent = False
            await until(shows(made, "a", "b"))


async def test_a_token_that_is_replaced_is_read_again(tmp_path):
    async with kube_api() as server:
        server.put(pod("a"))
        async with following(server, tmp_path) as made:
            await until(shows(made, "a"))
            server.tokens = {"second-token"}
            (tmp_path / "token").write_text("second-token")
            server.put(pod("b"))
            server.cut_watches()
            await until(shows(made, "a", "b"))


async def test_a_kind_that_is_installed_later_is_noticed(tmp_path):
    async with kube_api() as server:
        kind = (NEW_GROUP, "inferenceobjectives")
        server.installed.remove(kind)
        async with following(server, tmp_path, kind=OBJECTIVES[0], of=Objective) as made:
            await until(lambda: made.reflector.trouble is Trouble.ABSENT)
            server.installed.add(kind)
            server.put(objective("o", 1))
            await until(shows(made, "o"))


async def test_being_forbidden_is_settled_and_heals(tmp_path):
    async with kube_api() as server:
        server.forbidden = {("list", "pods")}
        server.put(pod("a"))
        async with following(server, tmp_path) as made:
            await until(lambda: made.reflector.settled)
            assert not made.reflector.synced
            server.forbidden = set()
            await until(shows(made, "a"))


async def test_a_storm_of_faults_ends_with_the_servers_state(tmp_path):
    chance = random.Random(7)
    async with kube_api() as server, following(server, tmp_path, silence=0.3) as made:
        for _ in range(150):
            name = f"p{chance.randrange(12)}"
            match chance.randrange(10):
                case 0:
                    server.compact()
                case 1:
                    server.cut_watches()
                case 2:
                    server.failing = 2
                case 3 | 4 if server.get("pods", name):
                    server.remove("pods", name)
                case _:
                    server.put(pod(name, f"10.0.0.{chance.randrange(250)}"))
            await asyncio.sleep(chance.choice([0, 0, 0.005]))
        held = {item["metadata"]["name"] for item in server.all("pods")}
        await until(shows(made, *held))
        versions = {o.metadata.resource_version for o in made.reflector.objects.values()}
        assert versions == {i["metadata"]["resourceVersion"] for i in server.all("pods")}


async def test_a_kubeconfig_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no/such: no such file"):
        await ClusterApi({"KUBECONFIG": "no/such"}, structlog.get_logger()).load()
