"""One cluster for all tests here; `make test-e2e` says which."""

import logging
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.cluster import Cluster, cluster
from support.suite import Suite

logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
ELECTED = os.environ.get("E2E_LEADER_ELECTION_ENABLED") == "true"
# Of three pickers there is to show what differs from one; the rest is the same, and shown there.
LEADING, BOTH = "test_leader_election.py", "test_routing.py"
OF_ONE = {path.name for path in Path(__file__).parent.glob("test_*.py")} - {LEADING}
collect_ignore = sorted(OF_ONE - {BOTH}) if ELECTED else [LEADING]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that waits for a lease to run out takes longer than a unit test may."""
    for item in items:
        if item.path.parent.name == "e2e":
            item.add_marker(pytest.mark.timeout(400))


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the tests have measured stands at the end of the run."""
    passed = terminalreporter.getreports("passed")
    lines = [line for each in passed if each.when == "call" for line in each.capstdout.splitlines()]
    terminalreporter.section("measured")
    for line in lines:
        terminalreporter.write_line(line[:400])


@pytest.fixture(autouse=True)
async def told_on_failure(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """After a test that failed: what every pod of its namespace is, and the end of its log."""
    yield
    for name in ("suite", "variant", "opened", "closed", "three", "ranks"):
        if FAILED in request.node.stash and name in request.fixturenames:
            suite = request.getfixturevalue(name)
            print(await suite.cluster.tell(suite.namespace))
            return


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
        await found.open_namespace(namespace)
        yield found


@pytest.fixture(scope="session")
async def suite(bare: Cluster, namespace: str, image: str) -> AsyncIterator[Suite]:
    """The seed's deployment, ready. `E2E_PAUSE_ON_EXIT` keeps it up for a look."""
    path = Path(os.environ["MANIFEST_PATH"])
    deployed = Suite(bare, namespace, image, path, elected=ELECTED)
    await deployed.deploy()
    yield deployed
    pause(os.environ.get("E2E_PAUSE_ON_EXIT", ""))


def pause(text: str) -> None:
    """A number of seconds; any other text is for ever."""
    if text:
        time.sleep(float(text.rstrip("s")) if text.rstrip("s").isdigit() else 1e9)
