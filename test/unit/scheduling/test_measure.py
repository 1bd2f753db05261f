import pytest

from epp.points import Scorer
from epp.scheduling.measure import observed


class Plugin:
    type = "it"
    paths = ("a",)

    def score(self, request, pool):
        return [request, pool]

    def admit(self, request, pool):
        raise RuntimeError("no")

    async def _wait(self):
        return "done"

    def gather(self, request):
        return self._wait()


def measured(*methods):
    seconds = []
    return observed(Plugin(), methods, seconds.append), seconds


def test_a_measured_plugin_answers_as_before():
    plugin, _ = measured("score")

    assert plugin.score(1, 2) == [1, 2]
    assert (plugin.type, plugin.paths) == ("it", ("a",))
    assert isinstance(plugin, Scorer)


def test_each_call_is_told_with_its_seconds():
    plugin, seconds = measured("score")
    plugin.score(1, 2)
    plugin.score(1, 2)

    assert len(seconds) == 2
    assert all(s >= 0 for s in seconds)


def test_a_call_that_raises_is_told_too():
    plugin, seconds = measured("admit")
    with pytest.raises(RuntimeError):
        plugin.admit(1, 2)

    assert len(seconds) == 1


async def test_a_call_that_waits_is_told_when_it_is_done():
    plugin, seconds = measured("gather")
    waiting = plugin.gather(1)
    assert seconds == []

    assert await waiting == "done"
    assert len(seconds) == 1


def test_a_call_that_could_wait_but_need_not_is_told_at_once():
    seconds = []

    class Ready:
        def gather(self, request):
            return None

    assert observed(Ready(), ("gather",), seconds.append).gather(1) is None
    assert len(seconds) == 1


def test_other_methods_are_not_measured():
    plugin, seconds = measured("score")
    with pytest.raises(RuntimeError):
        plugin.admit(1, 2)

    assert seconds == []
