"""The chat template: messages become one prompt.

Every message starts and ends on a token border, so an answer that comes back as a message in the
next turn has the very tokens it was generated with, and its blocks are found in the cache.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vllm_sim.text.tokenizer import pad

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

END = pad("<|im_end|>")


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
    return f"<|{part.get('type', 'part')}|>{json.dumps(part, sort_keys=True)}"


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
