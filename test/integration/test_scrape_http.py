"""Scraping over real sockets: what a far side may do to us."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import random
import ssl
import time

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.stores import Log, until

from epp.datastore import Datastore, StoreSettings
from epp.domain.endpoint import Endpoint
from epp.scrape import FetchSettings, HttpFetch, ScrapeError, Scraper, ScrapeSettings

PAGE = b"vllm:num_requests_waiting 2\nvllm:num_requests_running 3\n" + b"# filler\n" * 9000


@contextlib.asynccontextmanager
async def serving(handler, tls=None):
    """A server on a free port of the loopback; gives its endpoint."""
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    server = await asyncio.get_running_loop().create_server(runner.server, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Endpoint(name="far", host="127.0.0.1", port=port)
    finally:
        server.close()
        await runner.cleanup()


async def page(_request):
    return web.Response(body=PAGE)


async def fetched(endpoint, **settings):
    async with HttpFetch(FetchSettings(**settings)) as fetch:
        return await fetch(endpoint)


async def reason(endpoint, **settings):
    with pytest.raises(ScrapeError) as error:
        await fetched(endpoint, **settings)
    return error.value.reason


async def test_fetches_a_page():
    async with serving(page) as endpoint:
        assert await fetched(endpoint) == PAGE


async def test_one_connection_serves_many_pages():
    peers = set()

    async def handler(request):
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=PAGE)

    async with serving(handler) as endpoint, HttpFetch(FetchSettings()) as fetch:
        for _ in range(5):
            await fetch(endpoint)

    assert len(peers) == 1


@contextlib.asynccontextmanager
async def talking(*answers):
    """A server that gives one raw answer to each request, then closes; gives its endpoint."""
    left = list(answers)

    async def handle(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while left:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(left.pop(0))
                await writer.drain()
                if not left or left[0] == b"":
                    break
        if left:
            left.pop(0)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Endpoint(name="far", host="127.0.0.1", port=port)


async def test_a_kept_connection_that_was_closed_is_opened_anew():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
    async with talking(answer, b"", answer) as endpoint, HttpFetch(FetchSettings()) as fetch:
        first = await fetch(endpoint)
        await asyncio.sleep(0.05)
        second = await fetch(endpoint)

    assert (first, second) == (b"hi", b"hi")


async def test_endpoints_that_share_a_metrics_port_do_not_share_a_connection():
    async with serving(page) as endpoint, HttpFetch(FetchSettings()) as fetch:
        ranks = [
            Endpoint(name=f"r{n}", host="127.0.0.1", port=n, scrape_address=endpoint.address)
            for n in (1, 2, 3)
        ]
        pages = await asyncio.gather(*(fetch(rank) for rank in ranks))

    assert pages == [PAGE] * 3


async def test_a_cancelled_fetch_leaves_no_answer_to_the_next():
    async def handler(request):
        if request.path == "/slow":
            await asyncio.sleep(0.1)
        return web.Response(text=request.path)

    async with serving(handler) as endpoint, HttpFetch(FetchSettings(path="/slow")) as fetch:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await fetch(endpoint)
        assert await fetch(endpoint) == b"/slow"


async def test_a_chunked_page_is_read():
    async def handler(request):
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for part in (PAGE[:100], PAGE[100:]):
            await response.write(part)
            await asyncio.sleep(0.01)
        return response

    async with serving(handler) as endpoint, HttpFetch(FetchSettings()) as fetch:
        assert [await fetch(endpoint) for _ in range(3)] == [PAGE] * 3


async def test_path_and_port_can_be_others():
    async def handler(request):
        return web.Response(text=request.path)

    async with serving(handler) as endpoint:
        elsewhere = Endpoint(name="far", host="127.0.0.1", port=1)
        assert await fetched(elsewhere, port=endpoint.port, path="/other") == b"/other"


async def test_an_endpoint_may_name_its_own_metrics_address():
    async with serving(page) as endpoint:
        elsewhere = Endpoint(name="x", host="127.0.0.1", port=1, scrape_address=endpoint.address)
        assert await fetched(elsewhere) == PAGE


async def test_redirects_are_refused():
    async def handler(_request):
        raise web.HTTPFound("http://192.0.2.1/")

    async with serving(handler) as endpoint:
        assert await reason(endpoint) == "redirect"


async def test_errors_are_refused():
    async def handler(_request):
        raise web.HTTPServiceUnavailable

    async with serving(handler) as endpoint:
        assert await reason(endpoint) == "status"


async def test_a_page_announced_too_long_is_refused():
    async with serving(page) as endpoint:
        assert await reason(endpoint, max_bytes=1000) == "size"


async def test_a_page_that_never_ends_is_refused():
    async def handler(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x" * 60_000)
        return response

    async with serving(handler) as endpoint:
        assert await reason(endpoint, max_bytes=500_000) == "size"


async def test_a_closed_port_is_an_error():
    async with serving(page) as endpoint:
        pass

    assert await reason(endpoint) == "refused"


async def test_a_far_side_that_speaks_no_http_is_an_error():
    async def handle(reader, writer):
        await reader.read(1)
        writer.write(b"\x00\xff nonsense\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await reason(Endpoint(name="far", host="127.0.0.1", port=port)) == "connect"


async def test_a_page_cut_short_is_an_error():
    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nvllm:num_requests_waiting 12")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await reason(Endpoint(name="far", host="127.0.0.1", port=port)) == "connect"


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1: the path of its PEM file, key included."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "far")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "far.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextlib.asynccontextmanager
async def serving_tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with serving(page, tls=context) as endpoint:
        yield endpoint


async def test_https_without_verification(certificate):
    async with serving_tls(certificate) as endpoint:
        assert await fetched(endpoint, scheme="https") == PAGE


async def test_https_with_a_known_authority(certificate):
    settings = {"scheme": "https", "insecure_skip_verify": False, "ca_cert_path": str(certificate)}
    async with serving_tls(certificate) as endpoint:
        assert await fetched(endpoint, **settings) == PAGE


async def test_https_with_an_unknown_authority_is_refused(certificate):
    async with serving_tls(certificate) as endpoint:
        assert await reason(endpoint, scheme="https", insecure_skip_verify=False) == "connect"


async def test_a_dead_endpoint_goes_stale_and_heals():
    log = Log()
    store = Datastore(time.monotonic, time.time, StoreSettings(stale_floor=0.2), log)
    alive = True

    async def handler(_request):
        if not alive:
            raise web.HTTPInternalServerError
        return web.Response(body=PAGE)

    async with serving(handler) as endpoint, HttpFetch(FetchSettings()) as fetch:
        store.set_endpoints("test", [endpoint])
        settings = ScrapeSettings(busy=0.02, idle=0.05, failing=0.1)
        scraper = Scraper(store, fetch, settings, time.monotonic, random.Random(1), log=log)
        task = asyncio.create_task(scraper.run())
        try:
            await until(lambda: store.view().running.tolist() == [3])
            alive = False
            await until(lambda: not store.view().fresh.any())
            alive = True
            await until(lambda: store.view().fresh.all())
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    assert log.events() == ["scrape_broken", "scrape_healed"]
