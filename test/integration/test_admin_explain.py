"""`epp explain` asks a running picker's debug pages."""

import asyncio
import json

import click
import pytest
from click.testing import CliRunner, Result
from prometheus_client import CollectorRegistry

from epp.admin.debug import DebugSources
from epp.admin.pages import DecisionsPage
from epp.admin.server import Admin
from epp.cli.explain import command
from epp.domain.decision import Decision, FilteredBy, ProfileResult, ProfileTrace, ScoredBy
from epp.domain.endpoint import Endpoint
from epp.domain.request import Head, Request
from epp.errors import NoEndpoints
from epp.observe.decisions import DecisionLog

TRACE = ProfileTrace(
    "default",
    filtered=(FilteredBy("decode-filter", ("pod-c",)),),
    candidates=("pod-b", "pod-a"),
    scores=(ScoredBy("queue-scorer", 2.0, (0.25, 1.0)),),
    totals=(0.5, 2.0),
)
POD_A = Endpoint("pod-a", "10.0.0.1", 8000)
DECISION = Decision(
    request_id="x", primary=ProfileResult("default", (POD_A,), (2.0,), TRACE), reason="short queue"
)


def request(ours: str) -> Request:
    return Request(
        id=ours, head=Head({"x-request-id": "theirs"}), kind="chat", model="[b]llama[/b]"
    )


def remembered() -> DebugSources:
    log = DecisionLog()
    log.placed(request("first"), DECISION, 0.002)
    log.refused(request("second"), NoEndpoints("none is ready"), 0.001)
    return DebugSources(
        decisions=lambda wanted: DecisionsPage(log.find(wanted)),
        last_decisions=lambda count: DecisionsPage(log.last(count)),
    )


async def explained(*args: str) -> Result:
    admin = Admin(CollectorRegistry(), remembered(), metrics_port=0, debug_port=0)
    ports = await admin.start()
    try:
        url = f"http://127.0.0.1:{ports.debug}"
        wide = {"COLUMNS": "120"}
        return await asyncio.to_thread(
            CliRunner().invoke, command, [*args, "--debug-url", url], env=wide
        )
    finally:
        await admin.stop()


async def test_a_table_shows_candidates_scores_the_pick_and_why():
    shown = (await explained("first")).output

    rows = [line for line in shown.splitlines() if "pod-" in line]
    assert ["-> pod-a" in rows[0], "pod-b" in rows[1], "1.000" in rows[0]] == [True] * 3
    assert "decode-filter removed pod-c" in shown
    assert "because: short queue" in shown
    assert "to 10.0.0.1:8000" in shown


async def test_names_are_shown_as_they_are():
    assert "[b]llama[/b]" in (await explained("first")).output


async def test_a_refusal_is_explained_too():
    assert "refused with 503: none is ready" in (await explained("second")).output


async def test_the_clients_id_finds_all_that_shared_it():
    shown = json.loads((await explained("theirs", "--format", "json")).output)

    assert [record["id"] for record in shown["decisions"]] == ["second", "first"]


async def test_the_newest_come_first():
    shown = json.loads((await explained("--last", "1", "--format", "json")).output)

    assert [record["id"] for record in shown["decisions"]] == ["second"]


async def test_an_unknown_id_is_said_to_be_unknown():
    result = await explained("nobody")

    assert (result.exit_code, "no decision with this id" in result.output) == (1, True)


@pytest.mark.parametrize("args", [[], ["an-id", "--last", "2"], ["--last", "0"]], ids=str)
async def test_wrong_use_ends_with_2(args):
    assert (await explained(*args)).exit_code == 2


@pytest.mark.parametrize(
    ("url", "code"), [("http://127.0.0.1:1", 1), ("file:///etc/passwd", 2)], ids=["none", "file"]
)
def test_a_picker_that_is_not_there_is_said_so(url, code):
    assert isinstance(command, click.Command)
    result = CliRunner().invoke(command, ["an-id", "--debug-url", url])

    assert (result.exit_code, "debug" in result.output) == (code, True)
