"""The API server's word on our definitions: what it takes, what it refuses, and in which words."""

from typing import Any

import pytest
from support.cluster import Cluster
from support.cluster_api import ApiError, Object

SERVICE = {"name": "epp", "kind": "Service", "port": {"number": 9002}}


def pool(*ports: int, ref: Object | None = None, **spec: Any) -> Object:
    document: Object = {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "tried", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "sim"}},
            "targetPorts": [{"number": port} for port in ports or (8000,)],
            **spec,
        },
    }
    if ref is not None:
        document["spec"]["endpointPickerRef"] = ref
    return document


TAKEN = {
    "service with port": pool(ref=SERVICE),
    "http/2 to the pods": pool(ref=SERVICE, appProtocol="kubernetes.io/h2c"),
    "four ports": pool(8000, 80, 8081, 443, ref=SERVICE),
    "eight ports": pool(*range(8000, 8008), ref=SERVICE),
    "no picker": pool(),
    "another kind without port": pool(ref={"name": "epp", "kind": "Backend", "group": "x.io"}),
    "fails open": pool(ref={**SERVICE, "failureMode": "FailOpen"}),
}
REFUSED = {
    "kind unset, no port": (pool(ref={"name": "epp"}), "port is required when kind is 'Service'"),
    "service, no port": (
        pool(ref={"name": "epp", "kind": "Service"}),
        "port is required when kind is 'Service'",
    ),
    "a port twice": (pool(8000, 8001, 8000, ref=SERVICE), "port number must be unique"),
    "nine ports": (pool(*range(8000, 8009), ref=SERVICE), "must have at most 8 items"),
    "port 0": (pool(0, ref=SERVICE), "greater than or equal to 1"),
    "no labels": (pool(selector={"matchLabels": {}}), "at least 1 properties"),
    "no such mode": (pool(ref={**SERVICE, "failureMode": "Maybe"}), "Unsupported value"),
    "a namespace in the reference": (pool(ref={**SERVICE, "namespace": "x"}), "unknown field"),
    "the older flat selector": (pool(selector={"app": "sim"}), "unknown field"),
}


@pytest.mark.parametrize("document", TAKEN.values(), ids=TAKEN.keys())
async def test_a_pool_is_taken(bare: Cluster, document: Object) -> None:
    await bare.api.create(document, dryRun="All")


@pytest.mark.parametrize(("document", "message"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_pool_is_refused(bare: Cluster, document: Object, message: str) -> None:
    with pytest.raises(ApiError) as refusal:
        await bare.api.create(document, dryRun="All")

    assert message in refusal.value.message


async def test_a_pool_gets_its_defaults(bare: Cluster) -> None:
    made = await bare.api.create(pool(ref={"name": "epp", "port": {"number": 9002}}), dryRun="All")

    reference = {"group": "", "kind": "Service", "name": "epp", "port": {"number": 9002}}
    assert made["spec"]["endpointPickerRef"] == {**reference, "failureMode": "FailClose"}
    assert made["spec"]["appProtocol"] == "http"


@pytest.mark.parametrize("group", ["llm-d.ai", "inference.networking.x-k8s.io"])
async def test_an_objective_names_a_pool(bare: Cluster, group: str) -> None:
    document = {
        "apiVersion": f"{group}/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": {"name": "tried", "namespace": "default"},
        "spec": {"priority": -3, "poolRef": {"name": "pool"}},
    }

    made = await bare.api.create(document, dryRun="All")

    assert made["spec"]["poolRef"] == {
        "group": "inference.networking.k8s.io",
        "kind": "InferencePool",
        "name": "pool",
    }


def rewrite(weight: int) -> Object:
    targets = [{"modelRewrite": "b", "weight": weight}]
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": {"name": "tried", "namespace": "default"},
        "spec": {
            "poolRef": {"name": "pool"},
            "rules": [{"matches": [{"model": {"value": "a"}}], "targets": targets}],
        },
    }


@pytest.mark.parametrize("weight", [1, 1_000_000])
async def test_a_weight_is_taken(bare: Cluster, weight: int) -> None:
    await bare.api.create(rewrite(weight), dryRun="All")


@pytest.mark.parametrize("weight", [0, 1_000_001])
async def test_a_weight_is_refused(bare: Cluster, weight: int) -> None:
    with pytest.raises(ApiError, match="weight"):
        await bare.api.create(rewrite(weight), dryRun="All")
