"""Rights withheld from the picker, one at a time: it says which, and never crashes.

Each right has a room of its own with a pool and one picker; all are there before the first test.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from support.cluster import Cluster, manifest, moved
from support.cluster_api import Object, until
from support.suite import ELECTED, MODEL_SERVER, PICKER, SINGLE, TESTDATA, objective

START_SECONDS = 90.0
# More that start at once would take each other's core, and be ended by their probes.
AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Withheld:
    """One verb on one resource; `flags` make the picker need it."""

    verb: str
    resource: str
    flags: tuple[str, ...] = ()

    @property
    def room(self) -> str:
        return f"no-{self.verb}-{self.resource.replace('/', '-')}"

    @property
    def says(self) -> str:
        """What the log must say, as a line of JSON has it."""
        return f'cannot {self.verb} resource \\"{self.resource}\\"'


WATCHED = ("inferencepools", "pods", "inferenceobjectives", "inferencemodelrewrites")
ELECTION = ("--ha-enable-leader-election",)
ALL = [
    *(Withheld(verb, resource) for resource in WATCHED for verb in ("list", "watch")),
    *(Withheld(verb, "leases", ELECTION) for verb in ("get", "create", "update")),
    Withheld("create", "events", ELECTION),
    Withheld("patch", "pods", (*ELECTION, "--leader-label=llm-d.ai/leads")),
    Withheld("patch", "inferenceobjectives/status"),
    Withheld("create", "tokenreviews"),
    Withheld("create", "subjectaccessreviews"),
]


def documents(case: Withheld) -> list[Object]:
    """Pool and picker with every right it may need, but for the one."""
    name = ELECTED if case.flags else SINGLE
    found = manifest(TESTDATA / name, E2E_NS=case.room, E2E_IMAGE="localhost/epp:dev")
    return [changed(each, case) for each in moved(found, case.room)]


def changed(document: Object, case: Withheld) -> Object:
    kind = document["kind"]
    if kind == "Role":
        status = {"apiGroups": ["llm-d.ai"], "verbs": ["get", "patch"]}
        status["resources"] = ["inferenceobjectives/status", "inferencemodelrewrites/status"]
        return without({**document, "rules": [*document["rules"], status]}, case)
    if kind == "ClusterRole":
        metadata = {**document["metadata"], "name": case.room}
        return without({**document, "metadata": metadata}, case)
    if kind == "ClusterRoleBinding":
        return {**document, "roleRef": {**document["roleRef"], "name": case.room}}
    if kind == "Deployment":
        document["spec"]["replicas"] = 1
        document["spec"]["template"]["spec"]["containers"][0]["args"] += case.flags
    return document


def without(role: Object, case: Withheld) -> Object:
    """The role with one verb on one resource taken away."""
    rules = []
    for rule in role["rules"]:
        others = [each for each in rule["resources"] if each != case.resource]
        verbs = [each for each in rule["verbs"] if each != case.verb]
        if case.resource in rule["resources"] and verbs:
            rules.append({**rule, "resources": [case.resource], "verbs": verbs})
        if others:
            rules.append({**rule, "resources": others})
    return {**role, "rules": rules}


async def furnish(cluster: Cluster, case: Withheld, turns: asyncio.Semaphore) -> None:
    async with turns:
        await cluster.open_namespace(case.room)
        await cluster.apply(documents(case), case.room)
        # Something to say a status of.
        made = objective("weighed", 1, MODEL_SERVER)
        await cluster.apply([{**made, "apiVersion": "llm-d.ai/v1alpha2"}], case.room)
        await until(lambda: alive(cluster, case), START_SECONDS, f"no picker in {case.room}")


@pytest.fixture(scope="module", name="rooms")
async def all_rooms(bare: Cluster) -> AsyncIterator[Cluster]:
    turns = asyncio.Semaphore(AT_ONCE)
    await asyncio.gather(*(furnish(bare, case, turns) for case in ALL))
    yield bare
    await asyncio.gather(*(bare.api.delete("Namespace", case.room) for case in ALL))


async def ask_for_metrics(cluster: Cluster, case: Withheld) -> None:
    """As a scraper does: only then is there anything to review."""
    account = await cluster.api.path("ServiceAccount", case.room, PICKER)
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = (await cluster.api.request("POST", f"{account}/token", json=body))["status"]["token"]
    (pod,) = await cluster.pods(case.room, PICKER)
    url = f"http://{pod['status']['podIP']}:9090/metrics"
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
        assert answer.status == 503, await answer.text()


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.verb} {case.resource}")
async def test_a_right_that_is_withheld_is_named(rooms: Cluster, case: Withheld) -> None:
    if "reviews" in case.resource:
        await ask_for_metrics(rooms, case)

    async def says() -> str:
        for pod in await rooms.pods(case.room, PICKER):
            log = await rooms.log(case.room, pod["metadata"]["name"])
            lines = [line for line in log.splitlines() if case.says in line]
            if lines:
                return lines[0]
        return ""

    print(await until(says, START_SECONDS, f"the log does not say {case.says}"))


@pytest.mark.parametrize("case", ALL, ids=lambda case: f"{case.verb} {case.resource}")
async def test_the_picker_lives_without_it(rooms: Cluster, case: Withheld) -> None:
    assert await alive(rooms, case)
    (pod,) = await rooms.pods(case.room, PICKER)

    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


async def alive(cluster: Cluster, case: Withheld) -> bool:
    """It answers on the port of its metrics, which needs no right to refuse a stranger."""
    pods = await cluster.pods(case.room, PICKER)
    addresses = [each["status"].get("podIP") for each in pods]
    if len(pods) != 1 or not addresses[0]:
        return False
    url = f"http://{addresses[0]}:9090/metrics"
    try:
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return answer.status == 401
    except aiohttp.ClientError:
        return False
