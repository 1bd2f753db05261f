"""Rights withheld from the picker, one at a time: it says which, and never crashes."""

from collections.abc import AsyncIterator

import pytest
from support.cluster import Cluster, manifest
from support.cluster_api import Object, until
from support.suite import PICKER, SINGLE, TESTDATA

ROOM = "withheld"
# What is taken away -> what the log must name, and whether the picker can be ready without it.
WITHHELD = {
    "list pools": (("inferencepools", "list"), "inferencepools", False),
    "watch pools": (("inferencepools", "watch"), "inferencepools", True),
    "list pods": (("pods", "list"), "pods", False),
    "watch pods": (("pods", "watch"), "pods", True),
    "list objectives": (("inferenceobjectives", "list"), "inferenceobjectives", True),
    "watch objectives": (("inferenceobjectives", "watch"), "inferenceobjectives", True),
    "list rewrites": (("inferencemodelrewrites", "list"), "inferencemodelrewrites", True),
}


def documents() -> list[Object]:
    return manifest(TESTDATA / SINGLE, E2E_NS=ROOM, E2E_IMAGE="localhost/epp:dev")


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


@pytest.mark.parametrize(("taken", "named", "ready"), WITHHELD.values(), ids=[*WITHHELD])
async def test_a_right_that_is_withheld_is_named(
    room: Cluster, taken: tuple[str, str], named: str, ready: bool
) -> None:
    (role,) = [each for each in documents() if each["kind"] == "Role"]
    await room.apply([without(role, *taken)], ROOM)
    for pod in await room.api.list("Pod", ROOM, labels={"app": PICKER}):
        await room.api.delete("Pod", pod["metadata"]["name"], ROOM, grace=0)

    async def says() -> str:
        for pod in await room.pods(ROOM, PICKER):
            log = await room.log(ROOM, pod["metadata"]["name"])
            lines = [line for line in log.splitlines() if named in line and "orbidden" in line]
            if lines:
                return lines[0]
        return ""

    line = await until(says, 45, f"no line of the log names {named}")
    print(line)
    if ready:
        await room.until_ready(ROOM, PICKER, 1, 45)
    (pod,) = await room.pods(ROOM, PICKER)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    if not ready:
        assert await room.ready(ROOM, PICKER) == []
