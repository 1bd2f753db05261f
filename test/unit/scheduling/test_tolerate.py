"""A plugin that fails costs what it would have said, and nothing else."""

import pytest

from epp.errors import Saturated
from epp.scheduling.tolerate import Tolerant


class Shaky:
    type = "shaky"

    def __init__(self, error):
        self.error = error

    def score(self, request, pool):
        raise self.error

    async def gather(self, request):
        raise self.error


def shaky(error):
    told = []
    return Tolerant(Shaky(error), ("score", "gather"), None, told.append), told


def test_a_failing_scorer_has_no_opinion():
    error = ZeroDivisionError()
    plugin, told = shaky(error)

    assert (plugin.score("request", "pool"), told) == (None, [error])


async def test_a_failing_awaitable_is_told_too():
    error = ZeroDivisionError()
    plugin, told = shaky(error)
    await plugin.gather("request")

    assert told == [error]


def test_a_refusal_goes_through():
    plugin, told = shaky(Saturated("no"))

    with pytest.raises(Saturated):
        plugin.score("request", "pool")
    assert told == []


def test_the_rest_is_the_plugins_own():
    plugin, _ = shaky(ZeroDivisionError())

    assert plugin.type == "shaky"
