"""The doctor names the condition that is broken, each by its own signs."""

import pytest

from epp.admin.pages import FollowedRow, KvEventsPage
from epp.cli.diagnosis import agreement, diagnose
from epp.observe.compared import Compared


def row(**fields):
    sound = {
        "endpoint": "pod-a",
        "events_address": "tcp://10.0.0.1:5557",
        "linked": True,
        "live": True,
        "next": 7,
        "age": 0.1,
        "blocks": 100,
        "block_tokens": 16,
        "engine_block_tokens": 16,
    }
    return FollowedRow(**(sound | fields))


def request(**fields):
    sound = {
        "id": "r1",
        "endpoint": "pod-a",
        "tokens_by": "render",
        "tokens": 1000,
        "reported_tokens": 1000,
        "predicted": 512,
        "cached": 512,
        "live": True,
    }
    return Compared(**(sound | fields))


def page(*compared, of=None, **counts):
    return KvEventsPage(configured=True, endpoints=(of or row(),), counts=counts, compared=compared)


def conditions(told):
    return [finding.condition for finding in diagnose(told)]


def test_where_predictions_come_true_nothing_is_found():
    assert diagnose(page(request(), request(predicted=500), stored=100)) == []


def test_one_miss_among_many_is_no_finding():
    assert diagnose(page(request(predicted=0), *[request()] * 20)) == []


def test_without_a_producer_that_is_said():
    assert conditions(KvEventsPage()) == ["no producer"]


@pytest.mark.parametrize(
    ("of", "condition"),
    [
        (row(linked=False, live=False, next=None), "wrong address, or events off"),
        (row(live=False, next=None), "events off"),
        (row(live=False), "replica behind"),
        (row(engine_block_tokens=32), "block size"),
    ],
)
def test_what_an_endpoint_shows(of, condition):
    assert conditions(page(request(), of=of)) == [condition]


@pytest.mark.parametrize(
    ("signs", "condition"),
    [
        ({"cached": None}, "usage not reported"),
        ({"predicted": 0, "tokens_by": "bytes", "tokens": 990}, "tokens unknown"),
        ({"predicted": 0, "tokens": 990}, "template"),
        ({"predicted": 0, "salted": True}, "salt"),
        ({"predicted": 0, "adapter": "sql"}, "adapter"),
        ({"predicted": 0, "live": False}, "replica behind"),
        ({"predicted": 900}, "stale"),
        ({"predicted": 0}, "hash mismatch"),
    ],
)
def test_what_requests_show(signs, condition):
    assert conditions(page(request(**signs), request(**signs))) == [condition]


@pytest.mark.parametrize(
    ("counts", "condition"),
    [
        ({"stored": 10, "orphans": 10}, "parents unknown"),
        ({"unread": 3}, "dialect"),
        ({"unknown_sources": 3}, "wrong topic"),
    ],
)
def test_what_counts_show(counts, condition):
    assert conditions(page(request(), **counts)) == [condition]


def test_a_rendering_that_fails_is_told_with_its_reason():
    told = KvEventsPage(configured=True, endpoints=(row(),), rendering="http://pod-a answered 403")

    assert [(f.condition, f.evidence) for f in diagnose(told)] == [
        ("rendering fails", "http://pod-a answered 403")
    ]


def test_small_engine_blocks_are_no_mismatch():
    assert diagnose(page(request(), of=row(engine_block_tokens=1))) == []


def test_every_finding_says_where_why_and_what_to_do():
    told = page(request(predicted=0), of=row(live=False, engine_block_tokens=32), unread=1)

    assert all(f.where and f.evidence and f.fix for f in diagnose(told))


@pytest.mark.parametrize(
    ("compared", "share"),
    [
        ((), None),
        ((request(cached=None),), None),
        ((request(), request(predicted=0)), 0.5),
    ],
)
def test_agreement_is_the_share_that_came_as_predicted(compared, share):
    assert agreement(compared) == share
