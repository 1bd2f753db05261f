"""Tool calls: when a body demands one, a call whose arguments fit the tool's schema."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING, Any
from zlib import crc32

from vllm_sim.server.errors import bad_request
from vllm_sim.server.forms import ToolCall

if TYPE_CHECKING:
    from vllm_sim.options import ToolLaw

MAX_DEPTH = 8


def call_for(body: dict[str, Any], law: ToolLaw, seed: int) -> ToolCall | None:
    """The call that `tool_choice` demands (`required` or a named function), None otherwise.

    One seed and one tool make one call.
    """
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
    schema = function.get("parameters") or {}
    name = str(function.get("name", ""))
    drawn = Random(crc32(f"{seed} {name} {json.dumps(schema)}".encode()))
    arguments = json.dumps(Arguments(law, drawn).of(schema))
    number = crc32((name + arguments).encode())
    return ToolCall(f"chatcmpl-tool-{number:08x}", name, arguments, isinstance(choice, dict))


class Arguments:
    """Draws values that a JSON schema accepts, within the law."""

    def __init__(self, law: ToolLaw, random: Random) -> None:
        self._law = law
        self._random = random

    def of(self, schema: Any) -> Any:
        """The arguments of a call whose parameters have this schema."""
        return self._sample(schema, 0)

    def _sample(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict) or depth > MAX_DEPTH:
            return None
        if schema.get("enum"):
            return self._random.choice(schema["enum"])
        kind = schema.get("type")
        if kind == "object" or "properties" in schema:
            return self._object(schema, depth)
        if kind == "array":
            count = self._random.randint(*self._law.lengths)
            return [self._sample(schema.get("items"), depth + 1) for _ in range(count)]
        if kind == "integer":
            return self._random.randint(*self._law.integers)
        if kind == "number":
            return round(self._random.uniform(*self._law.numbers), 3)
        return True if kind == "boolean" else "word"

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or ()
        share = (self._law.fields if depth else self._law.parameters) / 100
        return {
            name: self._sample(inner, depth + 1)
            for name, inner in properties.items()
            if name in required or self._random.random() < share
        }
