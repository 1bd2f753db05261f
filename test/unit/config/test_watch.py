import asyncio
import os

import pytest

from epp.config.watch import FileWatch


class Told:
    def __init__(self) -> None:
        self.texts = []
        self.losses = []
        self.something = asyncio.Event()

    def changed(self, text):
        self.texts.append(text)
        self.something.set()

    def lost(self, why):
        self.losses.append(why)
        self.something.set()

    async def wait(self):
        await asyncio.wait_for(self.something.wait(), 5)
        self.something.clear()


@pytest.fixture
def told():
    return Told()


def watch(path, told, first=b"one") -> FileWatch:
    return FileWatch(path, first, changed=told.changed, lost=told.lost)


async def test_a_new_text_is_told_once(tmp_path, told):
    path = tmp_path / "c.yaml"
    path.write_text("two")
    watching = watch(path, told)
    await watching.look()
    await watching.look()

    assert told.texts == [b"two"]


async def test_the_text_in_force_is_no_change(tmp_path, told):
    path = tmp_path / "c.yaml"
    path.write_text("one")
    await watch(path, told).look()

    assert told.texts == []


async def test_a_lost_file_is_told_once_and_its_return_too(tmp_path, told):
    path = tmp_path / "c.yaml"
    watching = watch(path, told)
    await watching.look()
    await watching.look()
    path.write_text("one")
    await watching.look()

    assert len(told.losses) == 1
    assert told.texts == [b"one"]


async def running(watching):
    task = asyncio.create_task(watching.run())
    await asyncio.sleep(0.3)
    return task


async def stopped(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_atomic_rename_is_seen(tmp_path, told):
    path = tmp_path / "c.yaml"
    path.write_text("one")
    task = await running(watch(path, told))
    (tmp_path / "new").write_text("two")
    (tmp_path / "new").rename(path)
    await told.wait()
    await stopped(task)

    assert told.texts == [b"two"]


async def test_a_folder_that_comes_later_is_seen(tmp_path, told):
    path = tmp_path / "later" / "c.yaml"
    watching = FileWatch(path, b"one", changed=told.changed, lost=told.lost, poll=0.05)
    task = await running(watching)
    path.parent.mkdir()
    path.write_text("two")
    while not told.texts:
        await told.wait()
    await stopped(task)

    assert told.texts[-1] == b"two"


async def test_the_symlink_swap_of_a_config_map_is_seen(tmp_path, told):
    def publish(version, text):
        (tmp_path / version).mkdir()
        (tmp_path / version / "c.yaml").write_text(text)
        os.symlink(version, tmp_path / "..tmp")
        os.replace(tmp_path / "..tmp", tmp_path / "..data")

    publish("..v1", "one")
    os.symlink("..data/c.yaml", tmp_path / "c.yaml")
    task = await running(watch(tmp_path / "c.yaml", told))
    publish("..v2", "two")
    await told.wait()
    await stopped(task)

    assert told.texts == [b"two"]
