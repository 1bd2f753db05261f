"""Who leads now has taken over once its pod can be reached."""

import asyncio
import json

import pytest
from support.kube_objects import pod

from epp.kube.api import Answer, Unreachable
from epp.kube.client import retry_after
from epp.kube.handover import Succession, takes_over

LEAVING = pod("epp-1", deletionTimestamp="2026-01-01T00:00:00Z")


class OneAnswer:
    """An API server that says the same to everything, and remembers what it was asked."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    async def call(self, method, path, **_):
        self.asked.append((method, path))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def said(item):
    return Answer(200, json.dumps(item).encode())


@pytest.mark.parametrize(
    ("answer", "over"),
    [
        pytest.param(said(pod("epp-1")), True, id="ready"),
        pytest.param(said(pod("epp-1", ready=False)), False, id="not ready yet"),
        pytest.param(said(LEAVING), False, id="on its way out too"),
        pytest.param(Answer(403), False, id="may not be asked"),
        pytest.param(Answer(404), False, id="no such pod"),
        pytest.param(Answer(200, b"<html>"), False, id="somebody else answers"),
        pytest.param(Unreachable("cut off"), False, id="no answer"),
    ],
)
async def test_who_takes_over(answer, over):
    api = OneAnswer(answer)

    assert await takes_over(api, "room", "epp-1_5f0a-77", settle=0) is over
    assert api.asked == [("GET", "/api/v1/namespaces/room/pods/epp-1")]


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), ("", None), ("\u00b2", None), ("soon", None), ("-1", None)]
)
def test_a_server_says_when_to_come_back(text, seconds):
    assert retry_after(text) == seconds


class Gateways:
    """A former leader: what it knows of leadership, and how often it let its gateways go."""

    def __init__(self):
        self.leads = False
        self.holder = "epp-1_5f0a"
        self.reached = True
        self.let_go = 0
        self.asked = 0

    async def takes_over(self, _holder):
        self.asked += 1
        return self.reached

    def go(self):
        self.let_go += 1

    def succession(self):
        return Succession(
            lambda: self.leads,
            lambda: self.holder,
            self.takes_over,
            self.go,
            look_every=0.0,
            settle=0.0,
        )


async def told(gateways, *leads):
    """So much is said of leadership, and the loop turns a few times."""
    succession = gateways.succession()
    running = asyncio.create_task(succession.run())
    for each in leads:
        succession.led(each)
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_who_has_led_lets_go_once_when_another_is_reached():
    gateways = Gateways()
    await told(gateways, True, False)

    assert gateways.let_go == 1


async def test_who_has_never_led_keeps_its_connections():
    gateways = Gateways()
    await told(gateways)

    assert (gateways.let_go, gateways.asked) == (0, 0)


@pytest.mark.parametrize(
    "state",
    [{"reached": False}, {"holder": ""}, {"leads": True}],
    ids=["follower not reached", "nobody known to lead", "leads again meanwhile"],
)
async def test_connections_are_kept_while_nobody_else_can_serve(state):
    gateways = Gateways()
    for name, value in state.items():
        setattr(gateways, name, value)
    await told(gateways, True, False)

    assert gateways.let_go == 0
