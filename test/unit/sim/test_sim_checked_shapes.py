"""The comparison with real vLLM finds what differs, and only that."""

from __future__ import annotations

import pytest
from check_sim.exchange import body_of, events_of
from check_sim.metrics_page import page_of, samples_of
from check_sim.shapes import Difference, differences, runs, shape_of
from check_sim.verdict import Allowed, judge

ANSWER = {"id": "cmpl-1", "object": "text_completion", "choices": [{"text": "a", "index": 0}]}
PAGE = """# HELP vllm:n_total Words.
# TYPE vllm:n_total counter
vllm:n_total{engine="0",reason="capacity"} 3.0
vllm:n_total{engine="0",reason="deferred"} 4.0
# TYPE vllm:h histogram
vllm:h_bucket{le="1.0"} 1.0
vllm:h_bucket{le="+Inf"} 2.0
vllm:h_count 2.0
vllm:h_sum 9.0
"""


def found(real, simulated):
    return list(differences(shape_of(real), shape_of(simulated)))


def recording(**parts):
    events = {"batches": {}, "replay": []}
    return {"answers": {}, "metrics": {}, "counters": {}, "events": events, **parts}


def faults(real, simulated, *rules):
    return judge(recording(**real), recording(**simulated), rules).faults


@pytest.mark.parametrize(
    "other",
    [
        {**ANSWER, "id": "cmpl-2"},
        {**ANSWER, "choices": [{"text": "b", "index": 7}]},
        {**ANSWER, "choices": [{"text": "b", "index": 0}, {"text": "c", "index": 1}]},
    ],
    ids=["another id", "other words", "more of the same"],
)
def test_words_and_lengths_make_no_difference(other):
    assert found(ANSWER, other) == []


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({**ANSWER, "id": "chatcmpl-1"}, Difference("id", "string=cmpl-", "string=chatcmpl-")),
        ({**ANSWER, "more": None}, Difference("more", "absent", "null")),
        (
            {"id": "cmpl-1", "object": "text_completion", "choices": [{"index": 0}]},
            Difference("choices[].text", "string", "absent"),
        ),
        (
            {**ANSWER, "choices": [{"text": "a", "index": 0.5}]},
            Difference("choices[].index", "int", "float"),
        ),
        (
            {**ANSWER, "object": "list"},
            Difference("object", "string=text_completion", "string=list"),
        ),
        (
            {**ANSWER, "choices": []},
            Difference("choices", '[{"index": "int", "text": "string"}]', "[]"),
        ),
    ],
    ids=["kind of id", "one key more", "one key less", "kind of number", "telling word", "empty"],
)
def test_a_different_form_is_found(other, difference):
    assert found(ANSWER, other) == [difference]


def test_elements_of_a_list_have_one_shape_together():
    assert shape_of([1, None, 2]) == ["int|null"]
    assert shape_of([{"a": 1}, {"a": None, "b": 1}]) == [{"a": "int|null", "b": "absent|int"}]


def test_keys_that_are_words_are_not_compared():
    assert found({"top_logprobs": [{"the": -1.0}]}, {"top_logprobs": [{"a": -2.0}]}) == []


def test_equal_neighbours_count_once():
    assert runs(["a", "a", "b", "a"]) == ["a", "b", "a"]


def test_a_stream_is_the_run_of_its_events():
    stream = 'event: x\ndata: {"a": 1}\n\nevent: x\ndata: {"a": 2}\n\ndata: [DONE]\n\n'
    assert events_of(stream) == [{"event": "x", "data": {"a": "int"}}] * 2 + ["[DONE]"]
    assert len(body_of(stream, "text/event-stream")["events"]) == 2


def streams(real, simulated):
    return list(differences({"events": real}, {"events": simulated}, "case:.body"))


def test_a_slow_server_may_put_several_tokens_into_one_event():
    assert streams(["first", "last", "[DONE]"], ["first", "more", "last", "[DONE]"]) == []


@pytest.mark.parametrize(
    ("real", "simulated"),
    [
        (["first", "more", "last"], ["first", "last"]),
        (["first", "last"], ["first", {"event": "named", "data": "null"}, "last"]),
        (["first", "last"], ["first", "last", "[DONE]"]),
        (["first", "other", "last"], ["first", "more", "most", "last"]),
    ],
    ids=["fewer", "a named one", "a longer end", "another one"],
)
def test_any_other_stream_differs(real, simulated):
    assert len(streams(real, simulated)) == 1


def test_a_page_is_families_kinds_and_labels():
    assert page_of(PAGE) == {
        "vllm:h": {"kind": "histogram", "labels": {"le": "+Inf,1.0"}},
        "vllm:n_total": {
            "kind": "counter",
            "labels": {"engine": "any", "reason": "capacity,deferred"},
        },
    }


def test_samples_are_told_apart_by_their_labels_of_kinds():
    assert samples_of(PAGE, "vllm:n_total") == {("capacity",): 3.0, ("deferred",): 4.0}


def test_a_label_that_is_missing_is_found():
    page = PAGE.replace(',reason="deferred"', "").replace(',reason="capacity"', "")
    (fault,) = faults({"metrics": page_of(PAGE)}, {"metrics": page_of(page)})
    assert fault == Difference("vllm:n_total:.labels.reason", "capacity,deferred", "absent")


def test_a_family_that_is_missing_is_found():
    assert [fault.where for fault in faults({"metrics": page_of(PAGE)}, {})] == [
        "vllm:h:",
        "vllm:n_total:",
    ]


def test_a_count_that_is_off_is_found():
    (fault,) = faults({"counters": {"hits": "32"}}, {"counters": {"hits": "64"}})
    assert (fault.real, fault.simulated) == ("32", "64")


def batches(*payloads, numbers=(0, 1, 2)):
    rows = [[number, payload] for number, payload in zip(numbers, payloads, strict=False)]
    return {"events": {"batches": {"case": rows}, "replay": []}}


EMPTY, NULL = "93cb000000000000000090c0", "93cb00000000000000009000"


def test_events_are_compared_byte_by_byte():
    (fault,) = faults(batches(EMPTY), batches(NULL))
    assert (fault.real, fault.simulated) == ("[0.0, [], None]", "[0.0, [], 0]")


def test_a_batch_that_is_missing_is_found():
    missing = faults(batches(EMPTY, EMPTY), batches(EMPTY))
    assert missing[0].where == "case: batches"


def test_a_number_that_jumps_is_found():
    (fault,) = faults(batches(EMPTY, EMPTY), batches(EMPTY, EMPTY, numbers=(0, 2)))
    assert fault == Difference("events: numbers", "1", "2")


def test_a_rule_allows_what_it_names_and_nothing_else():
    real = {"answers": {"chat: a": {"body": {"metrics": ["int"], "id": "int"}}}}
    sim = {"answers": {"chat: a": {"body": {"metrics": ["null"], "id": "null"}}}}
    verdict = judge(recording(**real), recording(**sim), [Allowed("chat: a:.body.metrics[]", "x")])
    assert [fault.where for fault in verdict.faults] == ["chat: a:.body.id"]
    assert sum(verdict.used().values()) == 1
