"""Tool calls: when a body demands one, a call whose arguments fit the tool's schema."""

from __future__ import annotations

import json
from typing import Any
from zlib import crc32

from vllm_sim.server.errors import bad_request
from vllm_sim.server.forms import ToolCall

MAX_DEPTH = 8


def call_for(body: dict[str, Any]) -> ToolCall | None:
    """The call that `tool_choice` demands (`required` or a named function), None otherwise."""
    choice, tools = body.get("tool_choice"), body.get("tools") or []
    if choice in (None, "none", "auto"):
        return None
    functions = [
        tool["function"]
        for tool in tools
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        functions = [function for function in functions if function.get("name") == wanted]
    if not functions:
        raise bad_request("tool_choice names no tool of the request", "tool_choice")
    function = functions[0]
    arguments = json.dumps(_sample(function.get("parameters") or {}, 0))
    name = str(function.get("name", ""))
    number = crc32((name + arguments).encode())
    return ToolCall(f"chatcmpl-tool-{number:08x}", name, arguments, isinstance(choice, dict))


def _sample(schema: Any, depth: int) -> Any:
    """A value that the JSON schema accepts, the smallest that comes to mind."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return None
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties") or {}
        return {name: _sample(inner, depth + 1) for name, inner in properties.items()}
    if kind == "array":
        return [_sample(schema.get("items"), depth + 1)]
    samples = {"string": "word", "integer": 1, "number": 1.5, "boolean": True}
    return samples.get(kind) if isinstance(kind, str) else "word"
