"""Session affinity: tokens that cannot be forged, ids that are forgotten in time."""

import pytest
from pydantic import ValidationError
from support.pools import Clock, decision, endpoint, pool, request, tools

from epp.domain.response import ResponseHead
from epp.plugins.facts import SESSION_ID
from epp.plugins.filters.session_affinity import SessionAffinityFilter
from epp.plugins.scorers.session_affinity import SessionAffinityScorer
from epp.plugins.sessions import EndpointTokens, SessionTable

OK = ResponseHead(200, {})
BY_ID = {"strategy": "session_id", "sessionIdConfig": {"sources": [{"header": "X-Session"}]}}


def made(plugin, given=None, lent=None):
    return plugin(plugin.Params.model_validate(given or {}), lent or tools())


def token_of(plugin, picked, header="x-session-token"):
    changes = plugin.response_started(request(), decision(picked), OK)
    return changes.set[header]


@pytest.mark.parametrize(
    ("plugin", "answer"),
    [
        pytest.param(SessionAffinityScorer, "score", id="scorer"),
        pytest.param(SessionAffinityFilter, "filter", id="filter"),
    ],
)
class TestTokens:
    def test_a_client_comes_back_to_the_endpoint_of_its_token(self, plugin, answer):
        it, view = made(plugin), pool(4)
        token = token_of(it, view.endpoints[2])

        found = getattr(it, answer)(request(headers={"x-session-token": token}), view)

        assert found.tolist() == [0, 0, 1, 0]

    def test_another_picker_with_the_same_secret_understands_the_token(self, plugin, answer):
        token, view = token_of(made(plugin), endpoint(1)), pool(3)

        found = getattr(made(plugin), answer)(request(headers={"x-session-token": token}), view)

        assert found.tolist() == [0, 1, 0]


def no_opinion(token, view, secret=b"key"):
    it = made(SessionAffinityScorer, lent=tools(secret=secret))
    asked = request(headers={"x-session-token": token})
    return it.score(asked, view) is None


@pytest.mark.parametrize("token", ["", "cG9kLTE=", "x" * 10_000, "pod-1"])
def test_a_foreign_token_counts_for_nothing(token):
    assert no_opinion(token, pool(3))


def test_a_token_signed_with_another_secret_counts_for_nothing():
    assert no_opinion(token_of(made(SessionAffinityScorer), endpoint(1)), pool(3), b"other")


def test_a_token_of_an_endpoint_that_has_gone_counts_for_nothing():
    assert no_opinion(token_of(made(SessionAffinityScorer), endpoint(7)), pool(3))


def test_a_pod_that_returns_under_its_old_name_is_another_endpoint():
    before = token_of(made(SessionAffinityScorer), endpoint(1, uid="old"))

    assert no_opinion(before, pool(3))


def test_the_filter_keeps_all_without_a_session():
    assert made(SessionAffinityFilter).filter(request(), pool(3)).all()


def test_a_token_does_not_tell_the_endpoints_name():
    assert "pod" not in token_of(made(SessionAffinityScorer), endpoint(1))


def test_the_header_may_be_named():
    it = made(SessionAffinityScorer, {"encodedEndpointHeaderConfig": {"header": "X-Mine"}})
    token = token_of(it, endpoint(0), header="x-mine")

    assert it.score(request(headers={"x-mine": token}), pool(2)).tolist() == [1, 0]


def test_the_pick_of_a_named_profile_is_remembered():
    it = made(SessionAffinityScorer, {"profileName": "prefill"})
    both = decision(endpoint(0), profile="decode", others=[("prefill", endpoint(1))])
    token = it.response_started(request(), both, OK).set["x-session-token"]

    assert it.score(request(headers={"x-session-token": token}), pool(2)).tolist() == [0, 1]


def test_a_profile_that_did_not_run_leaves_no_token():
    it = made(SessionAffinityScorer, {"profileName": "prefill"})

    assert it.response_started(request(), decision(endpoint(0)), OK) is None


def test_tokens_known_are_bounded(monkeypatch):
    tokens = EndpointTokens(b"key")
    for number in range(9000):
        tokens.of(endpoint(number))

    assert len(tokens._tokens) <= 8192


class TestIds:
    def test_a_session_comes_back_to_where_it_was_sent(self):
        it, view = made(SessionAffinityScorer, BY_ID), pool(3)
        asked = request(headers={"x-session": "s1"})
        it.picked(asked, view, decision(view.endpoints[1]))

        assert it.score(asked, view).tolist() == [0, 1, 0]
        assert it.score(request(headers={"x-session": "s2"}), view) is None

    def test_an_attribute_may_carry_the_id(self):
        config = {
            "strategy": "session_id",
            "sessionIdConfig": {"sources": [{"attribute": "SessionID"}]},
        }
        it, view, asked = made(SessionAffinityScorer, config), pool(2), request()
        asked.facts.put(SESSION_ID, "s1")
        it.picked(asked, view, decision(view.endpoints[1]))

        assert it.score(asked, view).tolist() == [0, 1]

    def test_a_session_is_forgotten_after_its_time(self):
        clock = Clock()
        it, view = made(SessionAffinityScorer, BY_ID, tools(clock=clock)), pool(3)
        asked = request(headers={"x-session": "s1"})
        it.picked(asked, view, decision(view.endpoints[1]))
        clock.now += 300

        assert it.score(asked, view) is None

    def test_no_header_is_stamped(self):
        it = made(SessionAffinityScorer, BY_ID)

        assert it.response_started(request(), decision(endpoint(0)), OK) is None

    def test_ids_must_come_from_somewhere(self):
        with pytest.raises(ValidationError, match="sources"):
            made(SessionAffinityScorer, {"strategy": "session_id"})

    def test_a_source_is_a_header_or_an_attribute(self):
        both = {"header": "a", "attribute": "b"}
        with pytest.raises(ValidationError, match="either"):
            made(
                SessionAffinityScorer,
                {"strategy": "session_id", "sessionIdConfig": {"sources": [both]}},
            )


def test_the_session_table_is_bounded_and_drops_the_longest_unused():
    table = SessionTable(most=2)
    for session in ("a", "b", "a", "c"):
        table.note(session, "key", now=0.0, ttl=10.0)

    assert [table.find(session, 1.0) for session in "abc"] == ["key", None, "key"]


def test_sessions_past_their_time_leave_the_table():
    table = SessionTable()
    table.note("a", "key", now=0.0, ttl=10.0)
    table.note("b", "key", now=20.0, ttl=10.0)

    assert len(table) == 1


def test_an_attribute_source_needs_no_header():
    source = {"sources": [{"attribute": "SessionID", "producer": "session-id-producer"}]}
    it = made(SessionAffinityScorer, {"strategy": "session_id", "sessionIdConfig": source})

    assert it.score(request(headers={"x-session": "s1"}), pool(2)) is None
