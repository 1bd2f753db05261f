"""One request to a server, and what its answer looks like."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from check_sim.shapes import Shape, runs, shape_of

if TYPE_CHECKING:
    import aiohttp


@dataclass(frozen=True, slots=True)
class Case:
    """A request both servers get. `body` is JSON, or bytes sent as they are.

    `kept` names headers that are compared by presence, beside content-type, which always is.
    """

    name: str
    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


async def look(session: aiohttp.ClientSession, url: str, case: Case) -> Shape:
    """Sends the case; status, content type and shape of the answer."""
    headers = dict(case.headers)
    data = case.body
    if data is not None and not isinstance(data, bytes):
        data = json.dumps(data).encode()
    if data is not None:
        headers.setdefault("content-type", "application/json")
    async with session.request(case.method, url + case.path, data=data, headers=headers) as answer:
        text = (await answer.read()).decode()
        kind = answer.headers.get("content-type", "none")
        seen = {name: str(name in answer.headers) for name in case.kept}
    return {"status": str(answer.status), "content-type": kind, **seen, "body": body_of(text, kind)}


def body_of(text: str, content_type: str) -> Shape:
    """The shape of a body: JSON, an event stream, or text, of which only the presence counts."""
    if content_type.startswith("application/json"):
        return shape_of(json.loads(text))
    if content_type.startswith("text/event-stream"):
        return {"events": runs(events_of(text))}
    return "text" if text else "empty"


def events_of(stream: str) -> list[Shape]:
    """The shape of each server-sent event, named by its `event:` line where it has one."""
    shapes = []
    for block in stream.replace("\r\n", "\n").split("\n\n"):
        lines = [line.partition(":") for line in block.splitlines() if line]
        values = {name: value.removeprefix(" ") for name, _, value in lines}
        if "data" not in values:
            continue
        data = values["data"]
        shape = "[DONE]" if data == "[DONE]" else shape_of(json.loads(data))
        shapes.append({"event": values["event"], "data": shape} if "event" in values else shape)
    return shapes
