"""Rights withheld from the picker, one at a time: it says which, and never crashes."""

from collections.abc import AsyncIterator

import pytest
from support.cluster import Cluster, manifest, moved
from support.cluster_api import Object, until
from support.suite import PICKER, SINGLE, TESTDATA

ROOM = "withheld"
# Each right is taken away alone; the picker's log must say which verb on which resource.
WITHHELD = [
    (verb, resource)
    for resource in ("inferencepools", "pods", "inferenceobjectives", "inferencemodelrewrites")
    for verb in ("list", "watch")
]


def documents() -> list[Object]:
    found = manifest(TESTDATA / SINGLE, E2E_NS=ROOM, E2E_IMAGE="localhost/epp:dev")
    return moved(found, ROOM)


def without(role: Object, resource: str, verb: str) -> Object:
    """The Role with one verb on one resource taken away."""
    rules = []
    for rule in role["rules"]:
        others = [each for each in rule["resources"] if each != resource]
        verbs = [each for each in rule["verbs"] if each != verb]
        if resource in rule["resources"]:
            rules.append({**rule, "resources": [resource], "verbs": verbs})
        if others:
            rules.append({**rule, "resources": others})
    return {**role, "rules": rules}


@pytest.fixture(scope="module", name="room")
async def a_room(bare: Cluster) -> AsyncIterator[Cluster]:
    await bare.open_namespace(ROOM)
    await bare.apply(documents(), ROOM)
    yield bare
    await bare.api.delete("Namespace", ROOM)


@pytest.mark.parametrize(("verb", "resource"), WITHHELD, ids=[" ".join(each) for each in WITHHELD])
async def test_a_right_that_is_withheld_is_named(room: Cluster, verb: str, resource: str) -> None:
    (role,) = [each for each in documents() if each["kind"] == "Role"]
    await room.apply([without(role, resource, verb)], ROOM)
    for pod in await room.api.list("Pod", ROOM, labels={"app": PICKER}):
        await room.api.delete("Pod", pod["metadata"]["name"], ROOM, grace=0)

    async def says() -> str:
        words = f'cannot {verb} resource \\"{resource}\\"'
        for pod in await room.pods(ROOM, PICKER):
            log = await room.log(ROOM, pod["metadata"]["name"])
            lines = [line for line in log.splitlines() if words in line]
            if lines:
                return lines[0]
        return ""

    print(await until(says, 45, f"the log does not say that it cannot {verb} {resource}"))
    # Its process is alive: the probe of this manifest asks for no more.
    await room.until_ready(ROOM, PICKER, 1, 45)
    (pod,) = await room.pods(ROOM, PICKER)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
