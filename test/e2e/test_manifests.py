"""Every manifest this repository ships, in front of the API server: strict, but for show."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.cluster import CLUSTER_SCOPED, ROOT, Cluster, manifest, render
from support.cluster_api import ApiError, Object
from support.control_plane_binary import definitions_of_gateways

CONFIG = ROOT / "config"
TESTDATA = ROOT / "test" / "testdata"
FILES = sorted([*(CONFIG / "manifests").rglob("*.yaml"), *TESTDATA.rglob("*.yaml")])
# Not for a cluster: what kustomize reads, patches of it, and Envoy's own configuration.
LOOSE = ("kustomization.yaml", "envoy.yaml", "role.yaml")
# Kinds whose definitions come with products that no Go module ships.
UNCHECKED = {"gateway.envoyproxy.io", "networking.gke.io", "monitoring.coreos.com"}


# Empty but for this: an apply of what is there already would be a change of it.
ROOM = "manifests"


def whole() -> list[Path]:
    """Files that can be applied as they are."""
    return [each for each in FILES if each.name not in LOOSE or each.parent == TESTDATA]


def folders() -> list[Path]:
    """Folders that can be applied with `-k`."""
    found = (each.parent for each in FILES if each.name == "kustomization.yaml")
    return [each for each in found if "components" not in each.parts]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module", name="shop")
async def with_gateways(bare: Cluster) -> Cluster:
    """A cluster that knows the kinds of the Gateway API and of Istio too."""
    await bare.open_namespace(ROOM)
    for path in definitions_of_gateways():
        documents = [each for each in yaml.safe_load_all(path.read_text()) if each]
        for each in documents:
            if each["kind"] == "CustomResourceDefinition":
                await bare.api.apply(each, fieldValidation="Ignore")
    await asyncio.sleep(2)
    return bare


async def take(cluster: Cluster, document: Object, namespace: str) -> None:
    """A dry run of the document; kinds that cannot be had are told, never passed over."""
    if document["apiVersion"].partition("/")[0] in UNCHECKED:
        print(f"unchecked: {document['apiVersion']} {document['kind']}")
        assert {"metadata", "spec"} <= set(document)
        return
    if document["kind"] in CLUSTER_SCOPED:
        await cluster.api.apply(document, dryRun="All")
        return
    metadata = {**document["metadata"], "namespace": namespace}
    await cluster.api.apply({**document, "metadata": metadata}, dryRun="All")


@pytest.mark.parametrize("path", whole(), ids=named)
async def test_a_file_is_taken_as_it_is(shop: Cluster, path: Path) -> None:
    found = manifest(path, E2E_NS=ROOM, E2E_IMAGE="localhost/epp:dev")

    assert found
    for document in found:
        await take(shop, document, ROOM)


@pytest.mark.parametrize("path", folders(), ids=named)
async def test_a_folder_is_taken_as_it_is(shop: Cluster, path: Path) -> None:
    found = render(path)

    assert found
    for document in found:
        await take(shop, document, ROOM)


async def test_the_model_servers_of_this_run_are_taken(shop: Cluster) -> None:
    for document in manifest(Path(os.environ["MANIFEST_PATH"])):
        await take(shop, document, ROOM)


async def test_a_field_that_is_no_field_is_refused(shop: Cluster) -> None:
    (document,) = manifest(CONFIG / "manifests" / "pool" / "pool.yaml")
    document["spec"]["targetPortNumber"] = 8000

    with pytest.raises(ApiError, match="targetPortNumber"):
        await take(shop, document, ROOM)


def test_the_definitions_are_what_their_models_say() -> None:
    command = [sys.executable, str(CONFIG / "crd" / "generate.py"), "--check"]

    assert subprocess.run(command, check=False).returncode == 0
