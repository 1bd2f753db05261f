"""The admin listeners over real sockets: metrics for scrapers, debug pages for this machine."""

import asyncio
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_text
from support.stores import Log

from epp.admin import pages
from epp.admin.debug import DebugSources
from epp.admin.server import Admin
from epp.app.metrics_tls import metrics_tls
from epp.config.options import RunOptions
from epp.observe.decisions import DecisionRecord
from epp.observe.metrics import Metrics
from epp.observe.picker_metrics import PickerMetrics
from epp.observe.request_metrics import RequestMetrics
from epp.wire.tls import self_signed

RECORD = DecisionRecord(id="abc", client_id="theirs", destination="10.0.0.1:8000")
SOURCES = DebugSources(
    endpoints=lambda: pages.EndpointsPage("pool"),
    decisions=lambda wanted: pages.DecisionsPage((RECORD,) if wanted == "abc" else ()),
    last_decisions=lambda count: pages.DecisionsPage((RECORD,) * count),
    prefix=lambda name: pages.PrefixPage(name) if name == "pod-a" else None,
)


@asynccontextmanager
async def serving(
    registry=None, **options
) -> AsyncIterator[tuple[aiohttp.ClientSession, str, str]]:
    admin = Admin(
        registry or CollectorRegistry(),
        SOURCES,
        **{"metrics_port": 0, "debug_port": 0, **options},
    )
    ports = await admin.start()
    try:
        async with aiohttp.ClientSession() as client:
            local = "http://127.0.0.1"
            yield client, f"{local}:{ports.metrics}/metrics", f"{local}:{ports.debug}/debug"
    finally:
        await admin.stop()


def picker_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Metrics(RequestMetrics(), PickerMetrics(commit="abc")))
    return registry


async def test_metrics_come_as_the_text_format_by_default():
    async with serving(picker_registry()) as (client, metrics, _), client.get(metrics) as answer:
        names = {family.name for family in read_text(await answer.text())}

        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert {"llm_d_epp_info", "inference_extension_info"} <= names


async def test_metrics_come_as_openmetrics_when_asked():
    asked = {"Accept": "application/openmetrics-text; version=1.0.0; charset=utf-8"}
    async with (
        serving(picker_registry()) as (client, metrics, _),
        client.get(metrics, headers=asked) as answer,
    ):
        names = {family.name for family in read_open(await answer.text())}

        assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
        assert "llm_d_epp_info" in names


async def test_the_status_line_is_that_of_http_1_1():
    admin = Admin(CollectorRegistry(), DebugSources(), metrics_port=0, debug_port=None)
    ports = await admin.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", ports.metrics)
    try:
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
        await admin.stop()


async def test_metrics_are_served_on_every_address():
    admin = Admin(CollectorRegistry(), DebugSources(), metrics_port=0, debug_port=None)
    ports = await admin.start()
    hosts = ["127.0.0.1", "[::1]"] if socket.has_dualstack_ipv6() else ["127.0.0.1", "127.0.0.2"]
    try:
        async with aiohttp.ClientSession() as client:
            statuses = [
                (await client.get(f"http://{host}:{ports.metrics}/metrics")).status
                for host in hosts
            ]
        assert statuses == [200, 200]
    finally:
        await admin.stop()


@pytest.mark.parametrize("status", [401, 403])
async def test_a_scraper_without_leave_is_refused(status):
    async def authorize(headers):
        return 200 if headers.get("authorization") == "Bearer good" else status

    async with serving(authorize=authorize) as (client, metrics, _):
        without = await client.get(metrics)
        allowed = await client.get(metrics, headers={"Authorization": "Bearer good"})

        assert (without.status, allowed.status) == (status, 200)


@pytest.mark.parametrize("page", [name for name in pages.PAGES if name != "prefix"])
async def test_a_debug_page_keeps_to_its_type(page):
    async with serving() as (client, _, debug), client.get(f"{debug}/{page}") as answer:
        msgspec.json.decode(await answer.read(), type=pages.PAGES[page])

        assert (answer.status, answer.content_type) == (200, "application/json")


async def test_a_decision_is_found_by_its_id():
    async with serving() as (client, _, debug), client.get(f"{debug}/decisions?id=abc") as answer:
        page = msgspec.json.decode(await answer.read(), type=pages.DecisionsPage)

        assert page.decisions == (RECORD,)


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("decisions?id=unknown", 404),
        ("decisions?last=0", 400),
        ("decisions?last=many", 400),
        ("decisions?last=2", 200),
        ("prefix", 400),
        ("prefix?endpoint=nobody", 404),
        ("prefix?endpoint=pod-a", 200),
        ("schema/endpoints", 200),
        ("schema/nothing", 404),
        ("nothing", 404),
    ],
)
async def test_a_wrong_question_gets_a_json_problem(asked, status):
    async with serving() as (client, _, debug), client.get(f"{debug}/{asked}") as answer:
        body = await answer.json()

        assert (answer.status, "error" in body) == (status, status != 200)


async def test_the_debug_pages_change_nothing():
    async with serving() as (client, _, debug), client.post(f"{debug}/config") as answer:
        assert answer.status == 405


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:9091"},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=lambda headers: next(iter(headers.items())),
)
async def test_a_page_in_a_browser_may_not_read_the_debug_pages(headers):
    async with (
        serving() as (client, _, debug),
        client.get(f"{debug}/endpoints", headers=headers) as answer,
    ):
        assert answer.status == 403


async def test_the_debug_pages_listen_on_loopback_alone():
    admin = Admin(CollectorRegistry(), DebugSources(), metrics_port=0, debug_port=0)
    try:
        await admin.start()
        debug = admin.listening()[1]

        assert debug[0] == "127.0.0.1"
    finally:
        await admin.stop()


async def test_a_taken_port_leaves_nothing_open():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        admin = Admin(
            CollectorRegistry(), DebugSources(), metrics_port=0, debug_port=taken.getsockname()[1]
        )
        with pytest.raises(OSError, match=r"[Aa]ddress"):
            await admin.start()

        assert admin.listening() == []


async def test_metrics_are_served_as_the_certificate_of_the_moment(tmp_path):
    def renew():
        pair = self_signed(dt.datetime.now(dt.UTC))
        (tmp_path / "tls.crt").write_bytes(pair.certificate)
        (tmp_path / "tls.key").write_bytes(pair.key)

    renew()
    tls = metrics_tls(RunOptions(metrics_cert_dir=str(tmp_path)), Log())
    async with serving(tls=tls) as (_, metrics, _):
        address = metrics.replace("http://127.0.0.1", "https://localhost")
        for _ in range(2):
            trusting = ssl.create_default_context(cafile=tmp_path / "tls.crt")
            async with aiohttp.ClientSession() as client, client.get(address, ssl=trusting) as got:
                assert got.status == 200
            renew()
