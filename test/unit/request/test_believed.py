"""Which of a client's wishes are read is configuration; the default is all of them."""

from pathlib import Path

import pytest

from epp.config.options import RunOptions
from epp.domain.headers import CLIENT_HEADERS, CONTROL_HEADERS
from epp.domain.path import Intake
from epp.domain.request import Head
from epp.domain.response import ResponseMode
from epp.errors import ConfigError
from epp.request.believed import believing

TRUST = Path(__file__).resolve().parents[3] / "docs" / "trust.md"
ALL = {name: "x" for names in CLIENT_HEADERS.values() for name in names}


class Reading:
    """A reader that remembers which headers it was shown."""

    def __init__(self):
        self.seen = {}

    def read(self, intake, request_id, now):
        self.seen = dict(intake.head.headers)


def seen(groups, headers):
    reader = Reading()
    head = Head({":path": "/v1/completions", **headers}, 99)
    intake = Intake(head, b"", None, ResponseMode.WATCH)
    believing(reader, groups).read(intake, "id", 0.0)
    assert head.headers == {":path": "/v1/completions", **headers}
    return reader.seen


@pytest.mark.parametrize("group", CLIENT_HEADERS)
def test_a_group_that_is_named_is_read_alone(group):
    kept = dict.fromkeys(CLIENT_HEADERS[group], "x")

    assert seen([group], {**ALL, "accept": "y"}) == {
        ":path": "/v1/completions",
        "accept": "y",
        **kept,
    }


def test_all_are_read_unless_something_is_said():
    reader = Reading()

    assert believing(reader, RunOptions().client_headers) is reader


def test_what_is_not_read_still_does_not_reach_a_model_server():
    """All but the workload, which servers may want to know."""
    assert set(ALL) - set(CLIENT_HEADERS["workload"]) <= CONTROL_HEADERS


def test_a_group_that_is_none_is_refused_by_name():
    with pytest.raises(ConfigError, match="'objectives' is none of objective, fairness"):
        RunOptions(client_headers=("objectives",)).check()


def test_the_page_on_trust_lists_every_group_with_its_headers():
    text = TRUST.read_text()

    for group, names in CLIENT_HEADERS.items():
        assert f"| `{group}` | {', '.join(f'`{name}`' for name in names)} |" in text
