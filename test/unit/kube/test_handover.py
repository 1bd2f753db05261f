"""Who leads now has taken over once its pod can be reached."""

import json

import pytest
from support.kube_objects import pod

from epp.kube.api import Answer, Unreachable
from epp.kube.client import retry_after
from epp.kube.handover import takes_over

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
