"""Log lines: one for each event worth a line, and few of them in a flood."""

import io
import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.domain.request import Head, Prompt, Request
from epp.errors import BadRequest, InternalFault, NoEndpoints, QueueFull
from epp.observe.logs import LibraryLogs, RefusalLog, build_log

SECRET = "the prompt nobody may see"


class Lines:
    """A log in memory, and a clock to turn."""

    def __init__(self, **options) -> None:
        self.text = io.StringIO()
        self.log = build_log(self.text, **options)
        self.now = 100.0
        self.later: list = []

    def refusals(self, **options) -> RefusalLog:
        return RefusalLog(
            self.log,
            clock=lambda: self.now,
            later=lambda seconds, call: self.later.append(call),
            **options,
        )

    @property
    def read(self) -> list[dict]:
        return [json.loads(line) for line in self.text.getvalue().splitlines()]


def request() -> Request:
    return Request(
        id="ours",
        head=Head({"x-request-id": "theirs"}),
        model="llama",
        prompts=(Prompt(text=SECRET.encode()),),
    )


@pytest.mark.parametrize(
    ("verbosity", "written"),
    [
        (0, ["warning"]),
        (1, ["warning"]),
        (2, ["info", "warning"]),
        (3, ["info", "warning"]),
        (4, ["debug", "info", "warning"]),
        (9, ["debug", "info", "warning"]),
    ],
)
def test_gos_verbosity_chooses_the_level(verbosity, written):
    lines = Lines(verbosity=verbosity)
    lines.log.debug("d")
    lines.log.info("i")
    lines.log.warning("w")

    assert [line["level"] for line in lines.read] == written


def test_a_time_is_utc_in_iso_8601():
    lines = Lines()
    lines.log.info("something")

    assert lines.read[0]["timestamp"].endswith("Z")


def test_the_console_form_is_for_eyes():
    lines = Lines(encoder="console")
    lines.log.info("something", why="because")

    assert "something" in lines.text.getvalue()
    assert not lines.text.getvalue().startswith("{")


def test_a_refusal_is_one_line_with_its_reason():
    lines = Lines()
    lines.refusals().refused(request(), QueueFull("the queue is full"), 0.25)

    (line,) = lines.read
    told = {name: line[name] for name in ("event", "status", "reason", "request_id", "seconds")}
    assert told == {
        "event": "request refused",
        "status": 429,
        "reason": "rejected-capacity",
        "request_id": "ours",
        "seconds": 0.25,
    }


def test_no_part_of_a_prompt_is_in_the_line():
    lines = Lines(verbosity=9)
    lines.refusals().refused(request(), QueueFull("the queue is full"), 0.25)

    assert SECRET not in lines.text.getvalue()


def test_an_unreadable_request_has_a_line_too():
    lines = Lines()
    lines.refusals().refused(None, BadRequest("model is missing"), 0.1)

    assert lines.read[0]["message"] == "model is missing"


def test_of_a_request_that_was_never_read_the_head_is_in_the_line():
    lines = Lines()
    names = {":method": "POST", ":path": "/v1/chat?key=secret", "x-request-id": "theirs"}
    lines.refusals().refused(None, BadRequest("too large"), 0.0, Head(names))

    said = {name: lines.read[0][name] for name in ("client_request_id", "method", "path")}
    assert said == {"client_request_id": "theirs", "method": "POST", "path": "/v1/chat"}


def test_a_flood_becomes_a_count():
    lines = Lines()
    refusals = lines.refusals(per_second=3)
    for _ in range(1000):
        refusals.refused(None, NoEndpoints("none"), 0.1)
    lines.now += 1.0
    lines.later[0]()

    told = [(line["event"], line.get("count")) for line in lines.read]
    assert told == [("request refused", None)] * 3 + [("more requests refused", 997)]


def test_a_flood_of_one_reason_does_not_hide_another():
    lines = Lines()
    refusals = lines.refusals(per_second=1)
    for _ in range(10):
        refusals.refused(None, NoEndpoints("none"), 0.1)
    refusals.refused(None, QueueFull("full"), 0.1)

    assert [line["reason"] for line in lines.read] == ["no-endpoints", "rejected-capacity"]


def test_ten_times_as_many_of_our_own_faults_are_written():
    lines = Lines()
    refusals = lines.refusals(per_second=1)
    for number in range(15):
        refusals.refused(None, InternalFault(f"f{number}"), 0.1)
    refusals.close()

    levels = [line["level"] for line in lines.read]
    assert (levels, lines.read[-1]["count"]) == (["error"] * 10 + ["info"], 5)


def test_a_fault_says_what_broke_and_where_and_nothing_of_what_was_read():
    def broken(prompt: str) -> None:
        raise KeyError(prompt)

    lines, fault = Lines(), InternalFault("f1")
    try:
        broken(SECRET)
    except KeyError as error:
        fault.__cause__ = error
    lines.refusals().refused(None, fault, 0.0)

    (line,) = lines.read
    assert (line["fault_id"], line["error"], line["level"]) == ("f1", "KeyError", "error")
    assert "in broken" in line["trace"]
    assert SECRET not in lines.text.getvalue()


@pytest.mark.parametrize("encoder", ["json", "console"])
def test_a_traceback_shows_no_local_variable(encoder):
    def broken(prompt: str) -> None:
        raise RuntimeError("broken plugin")

    lines = Lines(encoder=encoder)
    try:
        broken(SECRET)
    except RuntimeError as error:
        lines.log.error("fault", exc_info=error)

    written = lines.text.getvalue()
    assert ("broken plugin" in written, SECRET in written) == (True, False)


def test_what_was_not_written_is_said_at_the_end():
    lines = Lines()
    refusals = lines.refusals(per_second=1)
    refusals.refused(None, NoEndpoints("none"), 0.1)
    refusals.refused(None, NoEndpoints("none"), 0.1)
    refusals.close()

    assert lines.read[-1]["count"] == 1


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 2), st.booleans()), max_size=60))
def test_lines_and_counts_add_up_to_all_refusals(steps):
    lines = Lines()
    refusals = lines.refusals(per_second=2)
    for seconds, empty in steps:
        lines.now += seconds
        refusals.refused(None, NoEndpoints("none") if empty else QueueFull("full"), 0.1)
    refusals.close()

    assert sum(line.get("count", 1) for line in lines.read) == len(steps)


def test_what_libraries_log_becomes_a_line_of_ours():
    lines = Lines()
    library = logging.Logger("aiohttp.server")
    library.addHandler(LibraryLogs(lines.log))
    library.info("detail")
    library.warning("something %s", "odd")

    told = [(line["event"], line["logger"], line["level"]) for line in lines.read]
    assert told == [("something odd", "aiohttp.server", "warning")]


@pytest.mark.parametrize(
    ("verbosity", "written"), [(2, []), (4, ["detail"]), (6, ["byte", "detail"])]
)
def test_libraries_speak_in_detail_only_where_that_is_asked_for(verbosity, written):
    lines = Lines(verbosity=verbosity)
    library = logging.Logger("hpack.hpack")
    library.addHandler(LibraryLogs(lines.log, verbosity))
    library.debug("byte")
    library.info("detail")

    assert [line["event"] for line in lines.read] == written
