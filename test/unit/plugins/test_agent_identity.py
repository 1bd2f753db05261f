"""An agent's session has a flow of its own, unless the client says whose request it is."""

import pytest
from support.requests import intake

from epp.plugins.identity.agent import AgentIdentity
from epp.plugins.parsers.openai import OpenAIParser
from epp.request.limits import DEFAULT_LIMITS
from epp.request.reader import RequestReader


def flow(*own, **headers):
    identity = AgentIdentity(AgentIdentity.Params(additional_session_headers=list(own)))
    reader = RequestReader((OpenAIParser(),), DEFAULT_LIMITS, (identity,))
    asked = intake({"model": "m", "prompt": "x"}, "/v1/completions", **headers)
    return reader.read(asked, "r1", 0.0).fairness_id


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ""),
        ({"x_claude_code_session_id": "c", "x_session_affinity": "a"}, "c"),
        ({"x_session_affinity": "a", "session_id": "s"}, "a"),
        ({"session_id": "s"}, "s"),
        ({"x_llm_d_inference_fairness_id": "f", "session_id": "s"}, "f"),
        ({"x_session_affinity": "a" * 257, "session_id": "s"}, "s"),
        ({"x_session_affinity": "a\x00b"}, ""),
    ],
)
def test_the_first_session_header_is_the_flow(headers, expected):
    assert flow(**headers) == expected


def test_headers_of_ones_own_come_first():
    assert flow("X-Mine", x_mine="m", x_claude_code_session_id="c") == "m"
