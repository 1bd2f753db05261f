"""Lends the token producer a socket: renderings by an engine's own HTTP service."""

import asyncio
from itertools import count

import aiohttp
from structlog.typing import FilteringBoundLogger

from epp.app.live import LiveConfig
from epp.app.sources import only
from epp.datastore import Datastore
from epp.plugins.producers.tokens import OF_THE_POOL, TokenProducer
from epp.tokens.render import NotOffered, Renderer

LARGEST_ANSWER = 32 << 20
LOOK_EVERY = 1.0
NOT_OFFERED = frozenset({403, 404, 405, 501})
"""What vLLM says of a page it does not have: 403 where it is turned off."""


class Rendering:
    """One HTTP session for whatever token producer is in force."""

    def __init__(self, live: LiveConfig, store: Datastore, log: FilteringBoundLogger) -> None:
        self._live = live
        self._store = store
        self._log = log
        self._trouble = ""
        self._turn = count()
        self._session: aiohttp.ClientSession | None = None

    async def run(self) -> None:
        """Offer the socket to the producer in force, until cancelled."""
        renderers: set[Renderer] = set()
        try:
            while True:
                producer = only(self._live.now.assembly, TokenProducer)
                if producer is not None and producer.renderer is not None:
                    renderers.add(producer.renderer)
                    producer.renderer.post = self.post
                    self._say(producer.renderer.trouble)
                await asyncio.sleep(LOOK_EVERY)
        finally:
            for renderer in renderers:
                renderer.post = None
                await renderer.close()
            if self._session is not None:
                await self._session.close()

    def _say(self, trouble: str) -> None:
        if trouble and not self._trouble:
            self._log.warning("rendering_broken", why=trouble, so="prompts match by own picks")
        elif self._trouble and not trouble:
            self._log.info("rendering_healed")
        self._trouble = trouble

    async def post(self, path: str, body: bytes) -> bytes:
        """The answer to a body. Raises OSError (NotOffered where there is no such page)."""
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=False)
        headers = {"Content-Type": "application/json"}
        url = self._base() + path
        try:
            async with self._session.post(
                url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                if answer.status in NOT_OFFERED:
                    raise NotOffered(f"{url} answered {answer.status}")
                if answer.status != 200:
                    raise OSError(f"{url} answered {answer.status}")
                return await bounded(answer)
        except aiohttp.ClientError as error:
            raise OSError(f"{url}: {error}") from error

    def _base(self) -> str:
        """The configured URL, else the pool's endpoints in turn. Raises OSError without any."""
        producer = only(self._live.now.assembly, TokenProducer)
        vllm = producer.params.vllm if producer is not None else None
        if vllm is not None and vllm.url != OF_THE_POOL:
            return vllm.url.rstrip("/")
        endpoints = self._store.view().endpoints
        if not endpoints:
            raise OSError("no endpoint is ready to render")
        return f"http://{endpoints[next(self._turn) % len(endpoints)].address}"


async def bounded(answer: aiohttp.ClientResponse) -> bytes:
    """The whole answer. Raises OSError when it is too long."""
    text = bytearray()
    async for piece in answer.content.iter_any():
        text += piece
        if len(text) > LARGEST_ANSWER:
            raise OSError(f"{answer.url} answered more than {LARGEST_ANSWER} bytes")
    return bytes(text)
