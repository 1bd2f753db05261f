"""Asks an engine how it would read a prompt: tokens, and where images stand.

Engines that do not render (older ones, vLLM 0.32 without `--enable-scale-out`) tokenize: the same
tokens for chats and completions, without the images.

The socket is somebody else's: `post` is given by whoever has one. A rendering is waited for only
where no long beginning of the prompt is known; else the known tokens serve and the rest is asked
for without anybody waiting.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import msgspec

from epp.domain.request import Item, Request
from epp.tokens.blocks import BYTES_PER_TOKEN
from epp.tokens.renderings import Found, Renderings
from epp.tokens.tokenized import Tokenized, ids_of

Post: TypeAlias = Callable[[str, bytes], Awaitable[bytes]]
"""Sends a body to a path and returns the answer's. Raises OSError (`NotOffered` among them) or
TimeoutError."""

PATHS: Final = {
    "chat": "/v1/chat/completions/render",
    "completions": "/v1/completions/render",
    "messages": "/v1/messages/render",
    "responses": "/v1/responses/render",
}
TOKENIZE: Final = "/tokenize"
TOKENIZED_KINDS: Final = frozenset({"chat", "completions"})
ASK_AGAIN: Final = 60.0
"""Seconds for which an engine that does not render a kind of request is not asked to again."""
ENOUGH: Final = 0.5
"""Share of a text whose known rendering is not waited upon to be completed."""
AT_ONCE: Final = 16


class NotOffered(OSError):
    """The engine has no such page, or has it turned off."""


class _Place(msgspec.Struct, frozen=True):
    offset: int
    length: int


class Features(msgspec.Struct, frozen=True):
    """Images and such beside token ids, by modality."""

    mm_hashes: dict[str, list[str | None]] | None = None
    mm_placeholders: dict[str, list[_Place]] | None = None


class _Row(msgspec.Struct, frozen=True):
    token_ids: list[int]
    features: Features | None = None


class _Plain(msgspec.Struct, frozen=True):
    tokens: list[int]


_PLAIN: Final = msgspec.json.Decoder(_Plain)
_ROWS: Final = msgspec.json.Decoder(list[_Row])
_ROW: Final = msgspec.json.Decoder(_Row)


class Renderer:
    """Renders requests by way of `post`, which is None until somebody offers a socket."""

    def __init__(self, most_tokens: int, timeout: float, at_once: int = AT_ONCE) -> None:
        self.post: Post | None = None
        self.known = Renderings(most_tokens)
        self.failed = 0
        self.trouble = ""
        """Why the last prompt that was asked about has no tokens; empty where it has."""
        self.skipped = 0
        """Times nobody was asked because too many were being asked already."""
        self._timeout = timeout
        self._at_once = at_once
        self._asked: dict[tuple[str, str, bytes], asyncio.Task[Tokenized | None]] = {}
        self._not_rendered: dict[str, float] = {}
        """Kinds that are not rendered, and until when (loop time) that is taken for granted."""

    def tokens(self, request: Request) -> Tokenized | Awaitable[Tokenized | None] | None:
        """A request's tokens: at once where enough is known, None where nobody can tell."""
        if request.kind not in PATHS or not request.prompts:
            return None
        text = text_of(request)
        found = self.known.find(text, request.target_model, request.kind)
        if found is not None and found.share == 1.0:
            return found.tokens
        task = self._ask(request, text)
        if found is not None and (task is None or found.share >= ENOUGH):
            return _beginning(found)
        return None if task is None else self._wait(task)

    async def close(self) -> None:
        """Wait for nobody any more."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ask(self, request: Request, text: bytes) -> asyncio.Task[Tokenized | None] | None:
        """One question for one text, however many wait for it."""
        key = (request.kind, request.target_model, text)
        if (task := self._asked.get(key)) is not None:
            return task
        if self.post is None or len(self._asked) >= self._at_once:
            self.skipped += 1
            return None
        task = asyncio.create_task(self._render(request, text, self.post), name="render")
        self._asked[key] = task
        task.add_done_callback(lambda _: self._asked.pop(key, None))
        return task

    async def _render(self, request: Request, text: bytes, post: Post) -> Tokenized | None:
        try:
            async with asyncio.timeout(self._timeout):
                told = await self._told(request, post)
            if len(told.prompts) != len(request.prompts):
                raise ValueError(f"{len(told.prompts)} prompts instead of {len(request.prompts)}")
        except (OSError, TimeoutError, ValueError) as error:
            self.failed += 1
            self.trouble = str(error) or f"no answer within {self._timeout:g} s"
            return None
        self.trouble = ""
        self.known.put(text, request.target_model, request.kind, told)
        return told

    async def _told(self, request: Request, post: Post) -> Tokenized:
        """As the engine renders it; where it does not, as it tokenizes it."""
        kind, now = request.kind, asyncio.get_running_loop().time()
        if self._not_rendered.get(kind, 0.0) <= now:
            try:
                return rendered(await post(PATHS[kind], request.body))
            except NotOffered:
                # An engine cannot tokenize several prompts at once, nor other kinds.
                if kind not in TOKENIZED_KINDS or len(request.prompts) != 1:
                    raise
                self._not_rendered[kind] = now + ASK_AGAIN
        told = tokenized(await post(TOKENIZE, request.body))
        media = sum(medium.tokens for prompt in request.prompts for medium in prompt.media)
        return msgspec.structs.replace(told, more=media) if media else told

    @staticmethod
    async def _wait(task: "asyncio.Task[Tokenized | None]") -> Tokenized | None:
        # Shielded: a request that cannot wait leaves the rendering to those that come after it.
        return await asyncio.shield(task)


def _beginning(found: Found) -> Tokenized:
    """The tokens that are known, and how many will follow them."""
    more = found.tokens.more + -(-found.rest // BYTES_PER_TOKEN)
    return msgspec.structs.replace(found.tokens, by="render-prefix", more=more)


def text_of(request: Request) -> bytes:
    """All prompts of a request as one text."""
    return b"\0".join(prompt.text for prompt in request.prompts)


def rendered(answer: bytes) -> Tokenized:
    """The tokens in a render answer: one object, or a list of them. Raises ValueError."""
    try:
        rows = _ROWS.decode(answer) if answer.lstrip()[:1] == b"[" else [_ROW.decode(answer)]
        return Tokenized(
            tuple(ids_of(row.token_ids) for row in rows),
            tuple(items_of(row.features) for row in rows),
            by="render",
        )
    except (msgspec.DecodeError, OverflowError) as error:
        raise ValueError(f"no rendering: {error}") from error


def tokenized(answer: bytes) -> Tokenized:
    """The tokens in a `/tokenize` answer. Raises ValueError."""
    try:
        return Tokenized((ids_of(_PLAIN.decode(answer).tokens),), by="tokenize")
    except (msgspec.DecodeError, OverflowError) as error:
        raise ValueError(f"no tokens: {error}") from error


def items_of(features: Features | None) -> tuple[Item, ...]:
    """Images and such, in the order they stand."""
    if features is None or not features.mm_hashes or not features.mm_placeholders:
        return ()
    items = [
        Item(name, place.offset, place.length)
        for kind, names in features.mm_hashes.items()
        for name, place in zip(names, features.mm_placeholders.get(kind, ()), strict=False)
        if name is not None
    ]
    return tuple(sorted(items, key=lambda item: item.start))
