"""OpenAI bodies: chat, completions, embeddings, responses and their kin.

One typed decode for each; messages and tools stay the bytes they are (12 KB in 9 us).
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from epp.domain.request import ParsedBody, Prompt
from epp.errors import BadRequest
from epp.request.decode import decode
from epp.request.output import Cap, first_cap
from epp.request.prompts import is_empty, need, open_ended, prompts_of
from epp.request.route import Reader

_ABSENT: Final = msgspec.Raw()


class _Common(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    cache_salt: str | None = None


class _Chat(_Common):
    messages: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    max_completion_tokens: Cap = None
    max_tokens: Cap = None


class _Completions(_Common):
    prompt: msgspec.Raw = _ABSENT
    prompt_embeds: msgspec.Raw = _ABSENT
    max_tokens: Cap = None


class _Embeddings(_Common):
    input: msgspec.Raw = _ABSENT
    messages: msgspec.Raw = _ABSENT


class _Responses(_Common):
    input: msgspec.Raw = _ABSENT
    instructions: msgspec.Raw = _ABSENT
    tools: msgspec.Raw = _ABSENT
    max_output_tokens: Cap = None


class _Conversations(_Common):
    items: msgspec.Raw = _ABSENT


class _Images(_Common):
    prompt: msgspec.Raw = _ABSENT


_CHAT: Final = msgspec.json.Decoder(_Chat)
_COMPLETIONS: Final = msgspec.json.Decoder(_Completions)
_EMBEDDINGS: Final = msgspec.json.Decoder(_Embeddings)
_RESPONSES: Final = msgspec.json.Decoder(_Responses)
_CONVERSATIONS: Final = msgspec.json.Decoder(_Conversations)
_IMAGES: Final = msgspec.json.Decoder(_Images)


def read_chat(body: bytes) -> ParsedBody:
    """Chat: the prompt is the JSON of the tools, then of the messages."""
    chat = decode(_CHAT, body)
    need(chat.messages, "messages")
    return ParsedBody(
        kind="chat",
        model=chat.model or "",
        stream=bool(chat.stream),
        prompts=(open_ended(chat.tools, chat.messages),),
        max_output_tokens=first_cap(
            max_completion_tokens=chat.max_completion_tokens, max_tokens=chat.max_tokens
        ),
        cache_salt=chat.cache_salt or "",
    )


def read_completions(body: bytes) -> ParsedBody:
    """Completions: strings or token ids; embedded prompts are no text and give no prompt."""
    asked = decode(_COMPLETIONS, body)
    embedded = is_empty(asked.prompt) and not is_empty(asked.prompt_embeds)
    return ParsedBody(
        kind="completions",
        model=asked.model or "",
        stream=bool(asked.stream),
        prompts=() if embedded else prompts_of(asked.prompt, "prompt"),
        max_output_tokens=first_cap(max_tokens=asked.max_tokens),
        cache_salt=asked.cache_salt or "",
    )


def read_embeddings(body: bytes) -> ParsedBody:
    """Embeddings of an `input`, or of `messages` as vLLM also takes them."""
    asked = decode(_EMBEDDINGS, body)
    if is_empty(asked.input) and not is_empty(asked.messages):
        prompts: tuple[Prompt, ...] = (open_ended(asked.messages),)
    else:
        prompts = prompts_of(asked.input, "input")
    return ParsedBody(
        kind="embeddings",
        model=asked.model or "",
        prompts=prompts,
        cache_salt=asked.cache_salt or "",
    )


def read_responses(body: bytes) -> ParsedBody:
    """Responses: the prompt is the JSON of tools, instructions, then the input."""
    asked = decode(_RESPONSES, body)
    if is_empty(asked.input):
        raise BadRequest("input: missing or empty; give a string or a list of items")
    return ParsedBody(
        kind="responses",
        model=asked.model or "",
        stream=bool(asked.stream),
        prompts=(open_ended(asked.tools, asked.instructions, asked.input),),
        max_output_tokens=first_cap(max_output_tokens=asked.max_output_tokens),
        cache_salt=asked.cache_salt or "",
    )


def read_conversations(body: bytes) -> ParsedBody:
    """Conversations are stored, not run: no prompt."""
    asked = decode(_CONVERSATIONS, body)
    need(asked.items, "items")
    return ParsedBody(kind="conversations", model=asked.model or "")


def read_images(body: bytes) -> ParsedBody:
    """Image generation from a text."""
    asked = decode(_IMAGES, body)
    return ParsedBody(
        kind="images", model=asked.model or "", prompts=prompts_of(asked.prompt, "prompt")
    )


def read_chat_render(body: bytes) -> ParsedBody:
    """Rendering turns messages into token ids without running them: no prompt."""
    chat = decode(_CHAT, body)
    need(chat.messages, "messages")
    return ParsedBody(kind="chat_render", model=chat.model or "")


def read_completions_render(body: bytes) -> ParsedBody:
    """Rendering turns a prompt into token ids without running it: no prompt."""
    asked = decode(_COMPLETIONS, body)
    prompts_of(asked.prompt, "prompt")
    return ParsedBody(kind="completions_render", model=asked.model or "")


READERS: Final[Mapping[str, Reader]] = {
    "chat/completions": read_chat,
    "completions": read_completions,
    "embeddings": read_embeddings,
    "responses": read_responses,
    "conversations": read_conversations,
    "chat/completions/render": read_chat_render,
    "completions/render": read_completions_render,
    "images/generations": read_images,
}
