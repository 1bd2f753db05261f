"""A file of endpoints, followed through everything that people do to files."""

import asyncio
import contextlib
import json
import os

import pytest
from support.stores import Log, store_of, until

from epp.discovery import FileDiscovery
from epp.errors import ConfigError


def listing(*ports):
    entries = [{"name": f"p{port}", "address": "127.0.0.1", "port": port} for port in ports]
    return json.dumps({"endpoints": entries})


def ports(store):
    return sorted(endpoint.port for endpoint in store.endpoints)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "endpoints.yaml"
    path.write_text(listing(1))
    return path


@pytest.fixture
def log():
    return Log()


@contextlib.asynccontextmanager
async def following(path, log, **options):
    store = store_of()
    discovery = FileDiscovery(path, store, log=log, **options)
    await discovery.load()
    task = asyncio.create_task(discovery.run())
    # The watch needs a moment to stand before the test may move anything.
    await asyncio.sleep(0.05)
    try:
        yield store
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_file_that_stays_as_it_is_is_not_read_again(path, tmp_path, log):
    # Behind a link nothing is told: only polling looks at it, and reading leaves a mark.
    (tmp_path / "beside").mkdir()
    behind = path.rename(tmp_path / "beside" / "endpoints.yaml")
    path.symlink_to(behind)
    async with following(path, log, poll_every=0.01):
        await asyncio.sleep(0.2)
        os.utime(behind, ns=(1, behind.stat().st_mtime_ns))
        await asyncio.sleep(0.2)
        read_at = behind.stat().st_atime_ns
        behind.write_text(listing(2))
        await until(lambda: "endpoints_loaded" in log.events())

    assert read_at == 1


# Polled so seldom that only the system's word can bring a change; or polled and never told.
BY_EVENTS = {"poll_every": 3600.0}
BY_POLLING = {"poll_every": 0.02}
both_ways = pytest.mark.parametrize(
    "options", [BY_EVENTS, BY_POLLING], ids=["by-events", "by-polling"]
)


@both_ways
async def test_a_file_written_anew_is_read(path, log, options):
    async with following(path, log, **options) as store:
        path.write_text(listing(1, 2))
        await until(lambda: ports(store) == [1, 2])


@both_ways
async def test_a_file_replaced_by_rename_is_read(path, log, options):
    async with following(path, log, **options) as store:
        for round_ in (2, 3):
            other = path.with_suffix(".new")
            other.write_text(listing(round_))
            other.rename(path)
            await until(lambda round_=round_: ports(store) == [round_])


@both_ways
async def test_a_file_behind_a_link_that_is_swapped_is_read(tmp_path, log, options):
    # As a ConfigMap is mounted: endpoints.yaml -> ..data/endpoints.yaml, ..data -> ..2026_1
    for version in (1, 2):
        (tmp_path / f"..2026_{version}").mkdir()
        (tmp_path / f"..2026_{version}" / "endpoints.yaml").write_text(listing(version))
    (tmp_path / "..data").symlink_to("..2026_1")
    path = tmp_path / "endpoints.yaml"
    path.symlink_to("..data/endpoints.yaml")
    async with following(path, log, **options) as store:
        assert ports(store) == [1]
        (tmp_path / "..data_tmp").symlink_to("..2026_2")
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
        await until(lambda: ports(store) == [2])


@both_ways
async def test_a_file_that_goes_and_returns_is_read(path, log, options):
    async with following(path, log, **options) as store:
        path.unlink()
        await until(lambda: "endpoints_broken" in log.events())
        assert ports(store) == [1]
        path.write_text(listing(2))
        await until(lambda: ports(store) == [2])


async def test_a_broken_file_changes_nothing_and_is_said_once(path, log):
    async with following(path, log, **BY_POLLING) as store:
        path.write_text("endpoints: [{nam: x}]")
        await until(lambda: log.lines)
        await asyncio.sleep(0.2)

        assert ports(store) == [1]
        assert log.events() == ["endpoints_broken"]
        assert "endpoints[0].nam" in log.lines[0][2]["why"]


async def test_a_mended_file_is_said_too(path, log):
    async with following(path, log, **BY_POLLING) as store:
        path.write_text("{")
        await until(lambda: log.lines)
        path.write_text(listing(1))
        await until(lambda: "endpoints_healed" in log.events())

        assert ports(store) == [1]


async def test_a_file_that_is_not_watched_is_read_once(path, log):
    async with following(path, log, watch=False, **BY_POLLING) as store:
        path.write_text(listing(2))
        await asyncio.sleep(0.2)

        assert ports(store) == [1]


async def test_names_are_resolved_again(path, log):
    answers = [["10.0.0.1"], ["10.0.0.2"]]

    async def resolve(_name):
        return answers[0] if len(answers) == 1 else answers.pop(0)

    entry = {"name": "a", "address": "gpu", "port": 1}
    path.write_text(json.dumps({"endpoints": [entry]}))
    async with following(path, log, resolve=resolve, resolve_every=0.02) as store:
        await until(lambda: [endpoint.host for endpoint in store.endpoints] == ["10.0.0.2"])


async def test_a_broken_file_at_the_start_is_an_error(path):
    path.write_text("endpoints: 3")

    with pytest.raises(ConfigError, match="endpoints: Input should be a valid list"):
        await FileDiscovery(path, store_of()).load()


async def test_a_missing_file_at_the_start_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        await FileDiscovery(tmp_path / "none.yaml", store_of()).load()


async def test_what_became_of_each_change_is_told(path, log):
    told = []
    async with following(path, log, told=told.append, **BY_POLLING):
        path.write_text("{")
        await until(lambda: told)
        path.write_text(listing(2))
        await until(lambda: len(told) > 1)

    assert told == ["refused", "applied"]
