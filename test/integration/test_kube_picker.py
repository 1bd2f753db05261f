"""A real picker in a cluster: its picks follow the pool, its pods, objectives and rewrites."""

import asyncio

import pytest
from support.cluster_pickers import FLAGS, cluster_picker, until
from support.kube_api import kube_api
from support.kube_objects import ALPHA_GROUP, NEW_GROUP, objective, pod, pool, rewrite, rule
from support.sims import simulators

UNREAD = "--metrics-endpoint-auth=false"


def pods(*ports_on_ips):
    return [pod(f"pod-{number}", ip) for number, ip in enumerate(ports_on_ips)]


@pytest.fixture
async def server():
    async with kube_api() as made:
        yield made


async def test_picks_follow_pods_that_come_go_and_fail(server, tmp_path):
    async with simulators(2, "--model=chat") as sims:
        server.put(pool(ports=(sims[0].port,)))
        server.put(pod("a", "127.0.0.1"))
        async with cluster_picker(server.kubeconfig(tmp_path)) as picker:
            await until(picker.health)
            assert await picker.destination() == sims[0].address

            server.put(pod("a", "127.0.0.1", ready=False))
            await until(lambda: goes(picker, 503))
            server.put(pod("a", "127.0.0.1"))
            await until(lambda: goes(picker, sims[0].address))

            server.put(pool(ports=(sims[1].port,)))
            await until(lambda: goes(picker, sims[1].address))

            server.remove("pods", "a")
            await until(lambda: goes(picker, 503))
            assert await picker.health()


async def goes(picker, where):
    return await picker.destination() == where


async def is_not_ready(picker):
    return not await picker.health()


async def logged(picker, text, times=1):
    return picker.log_text().count(text) >= times


async def test_a_pool_that_is_not_there_is_waited_for(server, tmp_path):
    server.put(pod("a", "127.0.0.1"))
    async with cluster_picker(server.kubeconfig(tmp_path)) as picker:
        assert picker.ports["ready"] is False
        assert await picker.health("liveness")
        assert not await picker.health()
        assert await picker.destination() == 503
        await until(lambda: logged(picker, "pool is not there"))

        server.put(pool())
        await until(picker.health)
        assert await picker.destination() == "127.0.0.1:8000"

        server.remove("inferencepools", "pool")
        await until(lambda: goes(picker, 503))
        await until(lambda: is_not_ready(picker))
        assert await picker.health("liveness")

        server.put(pool(ports=(8001,)))
        await until(picker.health)
        assert await picker.destination() == "127.0.0.1:8001"


async def test_a_pool_of_the_older_group_is_served(server, tmp_path):
    item = {
        "apiVersion": f"{ALPHA_GROUP}/v1alpha2",
        "kind": "InferencePool",
        "metadata": {"name": "pool", "namespace": "default"},
        "spec": {"selector": {"app": "vllm"}, "targetPortNumber": 8000},
    }
    server.put(item)
    server.put(pod("a", "127.0.0.1"))
    flags = f"--pool-group={ALPHA_GROUP}"
    async with cluster_picker(server.kubeconfig(tmp_path), flags) as picker:
        await until(picker.health)
        assert await picker.destination() == "127.0.0.1:8000"


async def test_pods_are_served_without_a_pool(server, tmp_path):
    server.put(pod("a", "127.0.0.1"))
    server.put(pod("b", "127.0.0.2", app="other"))
    base = tuple(flag for flag in FLAGS if not flag.startswith("--pool-name"))
    flags = ("--endpoint-selector=app=vllm", "--endpoint-target-ports=8000", UNREAD)
    name = "my-epp-6d4cf56db6-x7k2p"
    config = server.kubeconfig(tmp_path)
    async with cluster_picker(config, *flags, name=name, base=base) as picker:
        await until(picker.health)
        assert await picker.destination() == "127.0.0.1:8000"
        _, page = await picker.metrics()
        assert 'inference_pool_ready_pods{name="my-epp"} 1.0' in page


async def test_what_is_known_serves_on_while_the_api_server_is_away(server, tmp_path):
    server.put(pool())
    server.put(pod("a", "127.0.0.1"))
    async with cluster_picker(server.kubeconfig(tmp_path)) as picker:
        await until(picker.health)
        await server.stop()
        await asyncio.sleep(0.5)
        assert await picker.destination() == "127.0.0.1:8000"
        assert await picker.health()

        server.put(pod("a", "127.0.0.2"))
        await server.start()
        await until(lambda: goes(picker, "127.0.0.2:8000"))


async def test_rewrites_apply_and_beat_the_clients_header(server, tmp_path):
    server.put(pool())
    server.put(pod("a", "127.0.0.1"))
    server.put(rewrite("canary", rule("chat", to="chat-v2")))
    async with cluster_picker(server.kubeconfig(tmp_path)) as picker:
        await until(picker.health)
        await until(lambda: sends_model(picker, "chat-v2"))
        _, body = await picker.pick(headers={"x-gateway-model-name-rewrite": "theirs"})
        assert body["model"] == "chat-v2"

        server.remove("inferencemodelrewrites", "canary")
        await until(lambda: sends_model(picker, None))


async def sends_model(picker, model):
    _, body = await picker.pick()
    return (body and body["model"]) == model


async def test_objectives_give_priority_also_when_their_kind_comes_late(server, tmp_path):
    kinds = {(group, "inferenceobjectives") for group in (NEW_GROUP, ALPHA_GROUP)}
    server.installed -= kinds
    server.put(pool())
    server.put(pod("a", "127.0.0.1"))
    header = {"x-gateway-inference-objective": "urgent"}
    async with cluster_picker(server.kubeconfig(tmp_path), UNREAD) as picker:
        await until(picker.health)
        await until(lambda: logged(picker, "kind not installed", times=2))
        assert picker.log_text().count("kind not installed") == 2
        server.installed |= kinds
        server.put(objective("urgent", 7))

        async def has_priority():
            await picker.pick(headers=header)
            _, page = await picker.metrics()
            return 'llm_d_epp_request_total{fairness_id="",model_name="chat",priority="7"' in page

        await until(has_priority, 60)


async def test_status_says_what_is_served_and_what_points_nowhere(server, tmp_path):
    server.put(pool())
    server.put(pool("neighbour"))
    server.put(objective("mine", 1))
    server.put(objective("theirs", 1, pool="neighbour"))
    server.put(objective("lost", 1, pool="nobody"))
    server.put(rewrite("canary", rule("chat", to="v2"), group=ALPHA_GROUP))
    async with cluster_picker(server.kubeconfig(tmp_path)) as picker:
        await until(lambda: has_condition(server, "inferencemodelrewrites", "canary"))
        await until(lambda: has_condition(server, "inferenceobjectives", "lost"))
        await until(lambda: has_condition(server, "inferenceobjectives", "mine"))

        mine = server.get("inferenceobjectives", "mine")["status"]["conditions"]
        lost = server.get("inferenceobjectives", "lost")["status"]["conditions"]
        assert [(c["type"], c["status"], c["reason"]) for c in mine] == [
            ("Ready", "True", "Accepted")
        ]
        assert [(c["type"], c["status"], c["reason"]) for c in lost] == [
            ("Ready", "False", "PoolNotFound")
        ]
        assert "status" not in server.get("inferenceobjectives", "theirs")
        writes = server.requests["patch", "inferenceobjectives/status"]
        server.put(objective("more", 1))
        await until(lambda: has_condition(server, "inferenceobjectives", "more"))
        assert server.requests["patch", "inferenceobjectives/status"] == writes + 1
        assert await picker.health("liveness")


async def has_condition(server, plural, name):
    return "status" in server.get(plural, name)


async def test_a_role_without_the_verb_leaves_the_status_out_quietly(server, tmp_path):
    server.forbidden = {("patch", "inferenceobjectives/status")}
    server.put(pool())
    server.put(pod("a", "127.0.0.1"))
    for number in range(5):
        server.put(objective(f"o{number}", 1))
    async with cluster_picker(server.kubeconfig(tmp_path)) as picker:
        await until(lambda: logged(picker, "status is left out"))
        await until(picker.health)
        assert server.requests["patch", "inferenceobjectives/status"] == 1


async def test_metrics_are_for_those_whom_the_cluster_lets(server, tmp_path):
    server.put(pool())
    server.users = {"scraper": "prometheus", "stranger": "nobody"}
    server.readers = {"prometheus"}
    async with cluster_picker(server.kubeconfig(tmp_path)) as picker:
        tokens = ["", "unknown", "stranger", "scraper", "scraper", "scraper"]
        statuses = [(await picker.metrics(token))[0] for token in tokens]

        assert statuses == [401, 401, 403, 200, 200, 200]
        assert server.requests["create", "tokenreviews"] == 3
        assert server.requests["create", "subjectaccessreviews"] == 2
        await until(lambda: shows(picker, 'llm_d_epp_watch_objects{kind="inferencepools"} 1.0'))


async def shows(picker, line):
    _, page = await picker.metrics("scraper")
    return line in page


async def test_without_access_to_a_cluster_it_does_not_start(tmp_path):
    with pytest.raises(AssertionError, match="no access to a cluster"):
        async with cluster_picker(str(tmp_path / "none")):
            pass
