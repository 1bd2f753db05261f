"""Host names become addresses, and stay what they were when the resolver stumbles."""

import asyncio

import pytest
from support.stores import Log, pod

from epp.discovery.resolve import HOST_NAME_LABEL, Names, resolve_by_system


class Resolver:
    """Answers from `known`; a name that is not there has no address."""

    def __init__(self, **known):
        self.known = known
        self.asked = []

    async def __call__(self, name):
        self.asked.append(name)
        if name not in self.known:
            raise OSError("no such name")
        return self.known[name]


@pytest.fixture
def resolver():
    return Resolver(gpu=["10.1.1.1", "10.1.1.2"])


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def names(resolver, log):
    return Names(resolver, 1.0, log)


async def hosts(names, *endpoints):
    return [endpoint.host for endpoint in await names.settle(endpoints)]


async def test_addresses_pass_through_unasked(names, resolver):
    assert await names.settle([pod(0), pod(1, host="::1")]) == (pod(0), pod(1, host="::1"))
    assert resolver.asked == []


async def test_a_name_becomes_its_first_address_and_a_label(names):
    [endpoint] = await names.settle([pod(0, host="gpu")])

    assert endpoint.address == "10.1.1.1:8000"
    assert endpoint.labels == {HOST_NAME_LABEL: "gpu"}


async def test_a_label_of_the_users_own_stays(names):
    [endpoint] = await names.settle([pod(0, host="gpu", labels={HOST_NAME_LABEL: "mine"})])

    assert endpoint.labels == {HOST_NAME_LABEL: "mine"}


async def test_one_name_is_asked_for_once(names, resolver):
    await names.settle([pod(0, host="gpu"), pod(1, host="gpu", port=9)])

    assert resolver.asked == ["gpu"]


async def test_an_address_that_the_name_still_has_stays(names, resolver):
    await hosts(names, pod(0, host="gpu"))
    resolver.known["gpu"] = ["10.1.1.2", "10.1.1.1"]

    assert await hosts(names, pod(0, host="gpu")) == ["10.1.1.1"]


async def test_an_address_that_the_name_has_no_more_is_left(names, resolver):
    await hosts(names, pod(0, host="gpu"))
    resolver.known["gpu"] = ["10.1.1.9"]

    assert await hosts(names, pod(0, host="gpu")) == ["10.1.1.9"]


async def test_a_resolver_that_fails_keeps_the_last_address(names, resolver, log):
    await hosts(names, pod(0, host="gpu"))
    del resolver.known["gpu"]

    assert await hosts(names, pod(0, host="gpu")) == ["10.1.1.1"]
    assert log.lines[0][2]["kept"] == "10.1.1.1"


async def test_a_name_that_never_had_an_address_is_left_out_and_said_once(names, log):
    for _ in range(3):
        assert await hosts(names, pod(0, host="nowhere"), pod(1)) == ["10.0.0.2"]

    assert log.events() == ["host_name_unresolved"]


async def test_a_resolver_that_hangs_has_a_deadline(log):
    async def hang(_name):
        await asyncio.sleep(3600)

    names = Names(hang, 0.01, log)

    assert await hosts(names, pod(0, host="gpu"), pod(1)) == ["10.0.0.2"]


async def test_the_system_knows_itself():
    assert set(await resolve_by_system("localhost")) <= {"127.0.0.1", "::1"}
