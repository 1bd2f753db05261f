"""One cluster for all tests here; `make test-e2e` says which."""

import logging
import os
from collections.abc import AsyncIterator

import pytest
from support.cluster import Cluster, cluster

logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that waits for a lease to run out takes longer than a unit test may."""
    for item in items:
        if item.path.parent.name == "e2e":
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session")
def namespace() -> str:
    """Where the suite deploys to."""
    return os.environ.get("E2E_NS", "inf-ext-e2e")


@pytest.fixture(scope="session")
def image() -> str:
    """The picker's image."""
    return os.environ.get("E2E_IMAGE", "localhost/epp:dev")


@pytest.fixture(scope="session", name="bare")
async def a_cluster(namespace: str) -> AsyncIterator[Cluster]:
    """A cluster with our kinds and an empty namespace."""
    async with cluster() as found:
        await found.install_definitions()
        await found.apply(
            [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}]
        )
        yield found
