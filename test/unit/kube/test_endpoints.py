"""Pods become endpoints."""

import json

import msgspec
import pytest
from support.kube_objects import pod, pool

from epp.kube.endpoints import PodEndpoints, active_ports, endpoints_of, parse_selector, wanted_of
from epp.kube.objects import AlphaPool, Pod, Pool


def read(item, of=Pod):
    return msgspec.json.decode(json.dumps(item), type=of)


def endpoints(item, *ports):
    return endpoints_of(read(item), ports or (8000,))


def test_one_endpoint_for_each_target_port():
    made = endpoints(pod("a", "10.0.0.7", uid="u"), 8000, 8001)

    assert [(e.name, e.address, e.rank, e.pod, e.uid) for e in made] == [
        ("a-rank-0", "10.0.0.7:8000", 0, "a", "u"),
        ("a-rank-1", "10.0.0.7:8001", 1, "a", "u"),
    ]


def test_an_ipv6_address_stands_in_brackets():
    assert endpoints(pod("a", "fd00::7"))[0].address == "[fd00::7]:8000"


def test_an_address_takes_its_canonical_form_and_what_is_none_makes_no_endpoint():
    assert endpoints(pod("a", "FD00:0:0::7"))[0].host == "fd00::7"
    assert endpoints(pod("a", "fd00:::7")) == ()


def test_labels_and_ready_time_come_along():
    made = endpoints(pod("a", since="2026-01-01T00:00:10Z", labels={"llm-d.ai/role": "decode"}))[0]

    assert made.labels == {"app": "vllm", "llm-d.ai/role": "decode"}
    assert made.ready_since == 1767225610.0


@pytest.mark.parametrize(
    ("item", "ready"),
    [
        pytest.param(pod("a"), [True], id="ready"),
        pytest.param(pod("a", ready=False), [False], id="not ready"),
        pytest.param(pod("a", deletionTimestamp="2026-01-01T00:00:00Z"), [False], id="terminating"),
        pytest.param(pod("a", ""), [], id="without an address"),
        pytest.param({"metadata": {"name": "a"}}, [], id="just created"),
        pytest.param(
            {**pod("a"), "status": {"phase": "Failed", "podIP": "10.0.0.1"}}, [], id="over"
        ),
    ],
)
def test_who_may_be_picked(item, ready):
    assert [made.ready for made in endpoints(item)] == ready


@pytest.mark.parametrize(
    ("annotations", "names"),
    [
        pytest.param({}, ["a-rank-0", "a-rank-1"], id="none is all"),
        pytest.param({"llm-d.ai/active-ports": "8001"}, ["a-rank-1"], id="new name"),
        pytest.param(
            {"inference.networking.k8s.io/active-ports": " 8000 ,9"}, ["a-rank-0"], id="older name"
        ),
        pytest.param({"llm-d.ai/active-ports": ""}, [], id="none in use"),
    ],
)
def test_active_ports_leave_some_out_without_moving_ranks(annotations, names):
    made = endpoints(pod("a", annotations=annotations), 8000, 8001)

    assert [endpoint.name for endpoint in made] == names


def test_words_that_are_no_ports_name_none():
    assert active_ports({"llm-d.ai/active-ports": "x, 80²,8000"}) == frozenset({8000})


def test_a_pod_that_has_not_changed_keeps_its_endpoints():
    first, second = read(pod("a")), read(pod("b"))
    made = PodEndpoints((8000,))
    before = made.of([first, second])
    after = made.of([first, read(pod("b", ready=False))])

    assert after[0] is before[0]
    assert after[1].ready is False


def test_a_pool_names_labels_and_ports():
    wanted = wanted_of(read(pool(ports=(8000, 8001)), Pool))

    assert (wanted.label_selector, wanted.ports) == ("app=vllm", (8000, 8001))


def test_an_older_pool_has_one_port():
    item = {"metadata": {"name": "p"}, "spec": {"selector": {"a": "b"}, "targetPortNumber": 8000}}

    assert wanted_of(read(item, AlphaPool)).ports == (8000,)


@pytest.mark.parametrize(
    "ports", [(), (8000, 8000), tuple(range(1, 10))], ids=["none", "twice", "nine"]
)
def test_a_pool_that_cannot_be_served_says_why(ports):
    with pytest.raises(ValueError, match="target ports"):
        wanted_of(read(pool(ports=ports), Pool))


def test_a_selector_is_read_from_a_flag():
    assert parse_selector("a=b, c/d=e,f==") == {"a": "b", "c/d": "e", "f": ""}


@pytest.mark.parametrize("text", ["", "a", "=b", "a in (b)"])
def test_a_selector_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="label"):
        parse_selector(text)
