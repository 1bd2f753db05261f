"""The endpoints file: what is read, and how what is wrong is said."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epp.discovery.parse import MAX_BYTES, parse_endpoints
from epp.domain.endpoint import Endpoint
from epp.errors import ConfigError

GOOD = {"name": "a", "address": "10.0.0.1", "port": 8000}


def parsed(*entries):
    return parse_endpoints(json.dumps({"endpoints": entries}).encode(), "e.yaml")


def problems(*entries):
    with pytest.raises(ConfigError) as error:
        parsed(*entries)
    return list(error.value.problems)


def problems_of(data):
    with pytest.raises(ConfigError) as error:
        parse_endpoints(data, "e.yaml")
    return list(error.value.problems)


def test_reads_yaml_with_everything_in_it():
    text = b"""
endpoints:
- {name: vllm-0, address: "10.0.0.1", port: "8000", labels: {llm-d.ai/role: decode}}
- name: vllm-1
  namespace: prod
  address: 10.0.0.2
  port: 8001
"""

    assert parse_endpoints(text, "e.yaml") == (
        Endpoint(
            name="vllm-0",
            host="10.0.0.1",
            port=8000,
            labels={"llm-d.ai/role": "decode"},
            pod="vllm-0",
        ),
        Endpoint(name="vllm-1", namespace="prod", host="10.0.0.2", port=8001, pod="vllm-1"),
    )


def test_reads_json():
    assert [endpoint.address for endpoint in parsed(GOOD)] == ["10.0.0.1:8000"]


def test_reads_json_indented_with_tabs():
    text = json.dumps({"endpoints": [GOOD]}, indent="\t")

    assert len(parse_endpoints(text.encode(), "e.json")) == 1


def test_an_empty_list_is_an_empty_pool():
    assert parsed() == ()


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("2001:db8::1", "[2001:db8::1]:8000"),
        ("2001:0DB8:0::1", "[2001:db8::1]:8000"),
        ("::1", "[::1]:8000"),
        ("localhost", "localhost:8000"),
        ("vllm-0.vllm.prod.svc.cluster.local", "vllm-0.vllm.prod.svc.cluster.local:8000"),
        ("gpu_node-1", "gpu_node-1:8000"),
    ],
)
def test_reads_addresses_of_all_kinds(address, shown):
    [endpoint] = parsed({**GOOD, "address": address})

    assert endpoint.address == shown


@pytest.mark.parametrize(
    "address",
    [
        "http://a",
        "[::1]",
        "a:80",
        "10.0.0.300",
        "10.0.1",
        "a b",
        "-a",
        "a-.b",
        "a..b",
        "ä",
        "x" * 64,
    ],
)
def test_refuses_what_is_no_address(address):
    [problem] = problems({**GOOD, "address": address})

    assert problem.startswith("e.yaml: endpoints[0].address: ")
    assert problem.endswith("write it without scheme, port or brackets")


@pytest.mark.parametrize("port", [0, 65536, -1, "0", "x", "", "80a", 80.5, None, True, "٣"])
def test_refuses_what_is_no_port(port):
    [problem] = problems({**GOOD, "port": port})

    assert problem.startswith("e.yaml: endpoints[0].port: ")
    assert problem.endswith("; write a number from 1 to 65535")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"address": "a", "port": 1}, "endpoints[0].name: Field required; add it"),
        ({**GOOD, "prot": 1}, "endpoints[0].prot: Extra inputs are not permitted; remove it"),
        ({**GOOD, "name": ""}, "endpoints[0].name: String should have at least 1 character"),
        ({**GOOD, "name": 7}, "endpoints[0].name: Input should be a valid string; write a string"),
        ({**GOOD, "labels": {"a": 1}}, "endpoints[0].labels.a: Input should be a valid string"),
        ({**GOOD, "labels": []}, "endpoints[0].labels: Input should be a valid dictionary; write"),
        ("vllm-0", "endpoints[0]: "),
    ],
)
def test_says_which_field_is_wrong_and_what_to_do(entry, expected):
    [problem] = problems(entry)

    assert problem.startswith(f"e.yaml: {expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file: is no mapping; begin with endpoints: and list them below"),
        ("- {name: a}", "the file: is no mapping; begin with endpoints: and list them below"),
        (
            "endpoints: []\nkind: InferencePool",
            "kind: is no field of this file, which has one, endpoints; remove it",
        ),
    ],
    ids=["empty", "a bare list", "another kind of file"],
)
def test_says_what_the_file_as_a_whole_should_be(text, expected):
    assert problems_of(text.encode()) == [f"e.yaml: {expected}"]


def test_says_everything_at_once():
    found = problems({**GOOD, "port": 0}, {"name": "b", "address": "x"}, {**GOOD, "x": 1})

    assert [problem.split(":")[1].strip() for problem in found] == [
        "endpoints[0].port",
        "endpoints[1].port",
        "endpoints[2].x",
    ]


def test_names_are_unique_in_their_namespace():
    [problem] = problems(GOOD, {**GOOD, "address": "10.0.0.2"})

    assert problem == "e.yaml: endpoints[1].name: 'a' is endpoints[0] too; rename one"


def test_one_name_may_stand_in_two_namespaces():
    assert len(parsed(GOOD, {**GOOD, "address": "10.0.0.2", "namespace": "prod"})) == 2


def test_addresses_are_unique():
    [problem] = problems(GOOD, {**GOOD, "name": "b"})

    assert problem == (
        "e.yaml: endpoints[1].address: 10.0.0.1 port 8000 is endpoints[0] too; remove one"
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"endpoints: [", "e.yaml: line 2, column 1: not YAML or JSON"),
        (b"endpoints:\n\t- a", "e.yaml: line 2, column 1: not YAML or JSON"),
        (b"\xff\xfe\x00", "e.yaml: not YAML or JSON"),
        (b"!!python/object/apply:os.getcwd []", "e.yaml: line 1, column 1: not YAML or JSON"),
        (b"[" * 1_000_000, "e.yaml: nested deeper than 32; write a flat list"),
        (b"{a: " * 200_000, "e.yaml: nested deeper than 32; write a flat list"),
        (b"- " * 400_000, "e.yaml: nested deeper than 32; write a flat list"),
        (b"", "e.yaml: the file: "),
        (b"[]", "e.yaml: the file: "),
        (b"{}", "e.yaml: endpoints: Field required; add it"),
        (b"endpoints: 3", "e.yaml: endpoints: Input should be a valid list; write a list"),
        (b"#" * (MAX_BYTES + 1), "e.yaml: 1048577 bytes; the most is 1048576"),
    ],
)
def test_says_what_is_wrong_with_the_whole_file(data, expected):
    assert problems_of(data)[0].startswith(expected)


def test_does_not_say_more_than_anybody_reads():
    assert len(problems(*[{"name": "a"}] * 500)) <= 50


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_endpoints(data, "e.yaml"), tuple)
