"""Requests as a gateway hands them over, for tests."""

import json
from typing import Any

from epp.domain.path import Intake
from epp.domain.request import Head
from epp.domain.response import ResponseHead, ResponseMode


def head(path: str = "/v1/chat/completions", method: str = "POST", **headers: str) -> Head:
    """A header block; underscores in names become hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    every = {":method": method, ":path": path, **named}
    return Head(every, size=sum(len(k) + len(v) for k, v in every.items()))


def intake(body: Any, path: str = "/v1/chat/completions", method: str = "POST", **headers: str):
    """A whole request: `body` as bytes, or anything else as its JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Intake(head(path, method, **headers), data, None, ResponseMode.FULL)


def response_head(content_type: str = "application/json", status: int = 200, **headers: str):
    """The head of an answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ResponseHead(status, {":status": str(status), "content-type": content_type, **named})
