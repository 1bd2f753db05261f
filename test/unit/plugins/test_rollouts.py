"""Each request stays within one revision of a rollout, and none goes to half a one."""

from collections import Counter

import pytest
from pydantic import ValidationError
from support.pools import endpoint, pool, request, tools

from epp.plugins.screeners.rollout import RolloutScreener

REVISION = "disaggregatedset.x-k8s.io/revision"
ROLE = "disaggregatedset.x-k8s.io/role"
SCOPE = {"labelSelector": {"matchLabels": {"app": "llm"}}}


def screener(**parameters):
    params = RolloutScreener.Params.model_validate({"scope": SCOPE, **parameters})
    return RolloutScreener(params, tools())


def rollout(*members):
    """Endpoints as `revision role` texts; a name with `!` is out of scope."""
    found = []
    for number, member in enumerate(members):
        revision, role = member.strip("!").split()
        labels = {REVISION: revision, ROLE: role, "zone": f"z{number % 2}"}
        found.append(endpoint(number, labels=labels | ({} if "!" in member else {"app": "llm"})))
    return pool(endpoints=found)


def kept(of, view, **headers):
    asked = request(headers={name.replace("_", "-"): value for name, value in headers.items()})
    return of.screen(asked, view).tolist()


def test_one_revision_stays_and_what_is_out_of_scope_goes():
    view = rollout("a prefill", "a decode", "a decode!")

    assert kept(screener(), view) == [True, True, False]


@pytest.mark.parametrize(("mode", "share"), [("sum", 0.75), ("max-role", 2 / 3)])
def test_revisions_are_drawn_by_their_ready_endpoints(mode, share):
    view = rollout("a prefill", "a decode", "a decode", "b decode")
    of = screener(revisionGating={"mode": mode})
    drawn = Counter(tuple(kept(of, view)) for _ in range(2000))

    assert set(drawn) == {(True, True, True, False), (False, False, False, True)}
    assert drawn[True, True, True, False] / 2000 == pytest.approx(share, abs=0.05)


def test_a_revision_without_a_needed_role_is_never_drawn():
    view = rollout("a prefill", "a decode", "b decode")
    of = screener(revisionGating={"requireRoles": {"values": ["prefill", "decode"]}})

    assert {tuple(kept(of, view)) for _ in range(50)} == {(True, True, False)}


def test_nothing_stays_where_no_revision_is_whole():
    of = screener(revisionGating={"requireRoles": {"values": ["encode"]}})

    assert kept(of, rollout("a prefill", "b decode")) == [False, False]


def test_without_gating_all_of_the_scope_stays():
    of = screener(revisionGating={"mode": "disabled"})

    assert kept(of, rollout("a prefill", "b decode", "b decode!")) == [True, True, False]


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("strict", "z1", [False, True]),
        ("strict", "z9", [False, False]),
        ("prefer", "z1", [False, True]),
        ("prefer", "z9", [True, True]),
        ("strict", "", [True, True]),
    ],
)
def test_a_header_chooses_by_label(mode, value, expected):
    selector = {"headerName": "X-Zone", "labelKey": "zone", "mode": mode}
    of = screener(headerSelectors=[selector])

    assert kept(of, rollout("a prefill", "a decode"), x_zone=value) == expected


def test_a_scope_is_needed():
    with pytest.raises(ValidationError, match="matchLabels"):
        screener(scope={"labelSelector": {}})
