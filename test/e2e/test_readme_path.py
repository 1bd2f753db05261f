"""The README's way into a cluster, each command as it is written there, with nothing in between.

No kubectl is needed: `apply -k FOLDER` is its folder rendered and applied, `run NAME` a pod that
runs what stands after the two dashes and whose log is what the reader would see.
"""

import json
import re
import shlex
from collections.abc import AsyncIterator

import pytest
from support.cluster import ROOT, Cluster, render
from support.cluster_api import Object, until

NAMESPACE = "default"


def commands() -> list[list[str]]:
    """Every kubectl command of the README, in its order, as words."""
    text = (ROOT / "README.md").read_text()
    return [shlex.split(line) for line in re.findall(r"^\$ kubectl (.+)$", text, re.MULTILINE)]


def folders() -> list[str]:
    return [words[2] for words in commands() if words[:2] == ["apply", "-k"]]


@pytest.fixture(name="reader")
async def a_reader(bare: Cluster) -> AsyncIterator[Cluster]:
    """Somebody with an empty cluster; what they apply goes again, but for the kinds."""
    yield bare
    await bare.api.delete("Pod", "ask", NAMESPACE, grace=0)
    for folder in reversed(folders()):
        if folder != "config/crd":
            await bare.delete(render(ROOT / folder), NAMESPACE)


async def test_four_folders_and_one_question(reader: Cluster) -> None:
    said = ""
    for words in commands():
        if words[0] == "apply":
            await reader.apply(render(ROOT / words[2]), NAMESPACE)
        else:
            said = await run(reader, words)

    assert len(folders()) == 4
    answer = json.loads(said)
    # The adapter that the rewrite names: this gateway does not show answers to the picker.
    assert answer["model"] == "food-review-1"
    assert answer["choices"][0]["text"]


async def run(cluster: Cluster, words: list[str]) -> str:
    """`kubectl run NAME --rm -i --restart=Never --image=IMAGE -- ARGS`: what the pod printed."""
    options, arguments = words[: words.index("--")], words[words.index("--") + 1 :]
    (image,) = [each.partition("=")[2] for each in options if each.startswith("--image=")]
    assert {"--rm", "-i", "--restart=Never"} <= set(options)
    name = options[1]
    await cluster.apply([pod(name, image, arguments)], NAMESPACE)

    async def ended() -> Object | None:
        found = await cluster.api.get("Pod", name, NAMESPACE)
        return found if found["status"].get("phase") in ("Succeeded", "Failed") else None

    done = await until(ended, 120, f"{name} does not end\n{await cluster.tell(NAMESPACE)}")
    log = await cluster.log(NAMESPACE, name)
    assert done["status"]["phase"] == "Succeeded", log
    return log[log.index("{") :]


def pod(name: str, image: str, arguments: list[str]) -> Object:
    container = {"name": name, "image": image, "args": arguments}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"run": name}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
