"""A kind whose definition comes late, or goes: noticed without a restart, and missed by nobody."""

from collections.abc import AsyncIterator

import pytest
from support.cluster import ROOT, render
from support.cluster_api import ApiError, Object, until
from support.suite import MODEL_SERVER, PICKER, Suite, completion

NAME = "inferencemodelrewrites.llm-d.ai"
LATE = "asked-for-late"


def definition() -> Object:
    found = render(ROOT / "config" / "crd")
    return next(each for each in found if each["metadata"]["name"] == NAME)


def rewrite() -> Object:
    rule = {"matches": [{"model": {"value": LATE}}], "targets": [{"modelRewrite": "food-review-1"}]}
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": {"name": LATE},
        "spec": {"poolRef": {"name": MODEL_SERVER}, "rules": [rule]},
    }


async def status(suite: Suite) -> int:
    body = {**completion(LATE), "model": LATE}
    return (await suite.post("/v1/completions", body, {"x-gateway-model-name-rewrite": ""})).status


@pytest.fixture(name="without")
async def without_definition(suite: Suite) -> AsyncIterator[Suite]:
    """The suite with a picker that has started in a cluster that lacks the kind."""
    api = suite.cluster.api
    await api.delete("CustomResourceDefinition", NAME)

    async def gone() -> bool:
        return await api.find("CustomResourceDefinition", NAME) is None

    await until(gone, 30, "the definition does not go")
    before = await suite.picker()
    await api.delete("Pod", before, suite.namespace)

    async def another() -> bool:
        ready = await suite.cluster.ready(suite.namespace, PICKER)
        return [pod["metadata"]["name"] for pod in ready] not in ([], [before])

    await until(another, 60, "no new picker is ready")
    yield suite
    await suite.cluster.apply([definition()])


async def test_a_definition_that_comes_late_is_noticed(without: Suite) -> None:
    await until(lambda: serves(without), 30, "the picker does not serve without the kind")
    log = await without.cluster.log(without.namespace, await without.picker())
    told = [line for line in log.splitlines() if "inferencemodelrewrites" in line]

    await without.cluster.apply([definition()])
    await until(lambda: applied(without), 30, "the API server does not take the kind")

    async def served() -> bool:
        return await status(without) == 200

    await until(served, 60, "the rewrite does not hold")
    (pod,) = await without.cluster.ready(without.namespace, PICKER)
    print("\n".join(told))
    assert 1 <= len(told) <= 3
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    await without.cluster.delete([rewrite()], without.namespace)


async def serves(suite: Suite) -> bool:
    return (await suite.post("/v1/completions", completion("no rewrites"))).status == 200


async def applied(suite: Suite) -> bool:
    """The rewrite is there; for a moment the API server does not know its kind."""
    try:
        await suite.cluster.apply([rewrite()], suite.namespace)
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True
