"""The chat template: messages become one prompt.

Every message starts and ends on a token border, so an answer that comes back as a message in the
next turn has the very tokens it was generated with, and its blocks are found in the cache.

Images, video and audio are so many tokens each, whatever their size, made of a hash of the part:
equal ones have equal tokens, and no two others.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from vllm_sim.text.tokenizer import BYTES_PER_TOKEN, pad

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

END = pad("<|im_end|>")
MEDIA_TOKENS: Final = {
    "image": 256,
    "image_url": 256,
    "input_image": 256,
    "audio_url": 128,
    "input_audio": 128,
    "video_url": 2048,
}
"""By the type of a part: a picture of 512 x 512, ten seconds of sound, ten of video at 1 a second,
as models in vLLM count them, to the order of magnitude."""


def flat_text(content: object) -> str:
    """The text of a message's content: a string, or parts of which some carry text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part_text(part) for part in content)
    return ""


def _part_text(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    text = part.get("text")
    if isinstance(text, str):
        return text
    kind, content = str(part.get("type", "part")), part.get("content")
    shown = json.dumps(part, sort_keys=True)
    if tokens := MEDIA_TOKENS.get(kind):
        return pad(f"<|{kind}|>") + _hashed(shown, tokens)
    if isinstance(content, list):
        shown = json.dumps({**part, "content": None}, sort_keys=True) + flat_text(content)
    return f"<|{kind}|>{shown}"


def _hashed(shown: str, tokens: int) -> str:
    """So many tokens that stand for what is shown."""
    name, size = sha256(shown.encode("utf-8", "replace")).hexdigest(), tokens * BYTES_PER_TOKEN
    return (name * -(-size // len(name)))[:size]


def render_chat(
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    generation_prompt: bool = True,
) -> str:
    """The prompt of a conversation, ending where the assistant's answer begins."""
    parts = []
    if tools:
        parts.append(_message("tools", json.dumps(list(tools), sort_keys=True)))
    parts.extend(_turn(message) for message in messages)
    if generation_prompt:
        parts.append(pad("<|im_start|>assistant"))
    return "".join(parts)


def _turn(message: Mapping[str, Any]) -> str:
    text = flat_text(message.get("content"))
    calls = message.get("tool_calls")
    if calls:
        text += json.dumps(calls, sort_keys=True)
    return _message(str(message.get("role", "user")), text)


def _message(role: str, text: str) -> str:
    return pad(f"<|im_start|>{role}") + pad(text) + END
