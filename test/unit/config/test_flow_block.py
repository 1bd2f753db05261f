"""The flow control block: what is filled in, what is refused, what has no effect."""

import pytest
import yaml

from epp.admission.build import flow_settings
from epp.assemble import assemble_text, bare_house
from epp.errors import ConfigError
from epp.plugins.catalog import CATALOGUE


def assembled(plugins=(), gate=True, **flow):
    config = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "featureGates": [f"flowControl={str(gate).lower()}"],
        "plugins": [{"type": "queue-scorer"}, *({"type": name} for name in plugins)],
        "flowControl": flow,
    }
    return assemble_text(yaml.safe_dump(config), "f.yaml", CATALOGUE, bare_house())


def told(**flow):
    assembly = assembled(**flow)
    return flow_settings(assembly.plan, assembly.instances)


def test_without_the_gate_there_is_no_queue():
    assert told(gate=False) is None


def test_without_the_gate_a_block_is_warned_of():
    (warning,) = assembled(gate=False, maxRequests=5).policy.warnings

    assert "has no effect: add flowControl to featureGates" in warning


def test_all_that_is_left_out_is_filled_in():
    settings = told()
    usual = settings.band(0)
    policies = (usual.ordering, usual.fairness, settings.usage, settings.detector)

    assert (usual.max_requests, usual.max_bytes, settings.ttl) == (5000, 10**9, 60.0)
    assert [policy.type for policy in policies] == [
        "workload-ordering-policy",
        "global-strict-fairness-policy",
        "static-usage-limit-policy",
        "learned-limit-detector",
    ]


def test_each_priority_has_what_is_written_for_it():
    settings = told(
        plugins=["fcfs-ordering-policy", "round-robin-fairness-policy"],
        defaultPriorityBand={"maxRequests": 7, "orderingPolicyRef": "fcfs-ordering-policy"},
        priorityBands=[{"priority": -1, "fairnessPolicyRef": "round-robin-fairness-policy"}],
    )

    assert [settings.band(p).max_requests for p in (3, 0, -1, -2)] == [7, 7, 5000, 7]
    assert settings.band(-1).fairness.type == "round-robin-fairness-policy"
    assert settings.band(-2).ordering.type == "fcfs-ordering-policy"


@pytest.mark.parametrize(
    ("flow", "ttl", "without"),
    [
        ({}, 60.0, 60.0),
        ({"defaultRequestTTL": "5s"}, 5.0, 5.0),
        ({"defaultRequestTTL": "5s", "noEndpointRequestTTL": "5m"}, 5.0, 300.0),
        ({"defaultRequestTTL": "0s", "noEndpointRequestTTL": "1s"}, float("inf"), 1.0),
    ],
)
def test_times_to_live(flow, ttl, without):
    settings = told(**flow)

    assert (settings.ttl, settings.ttl_without_endpoints) == (ttl, without)


@pytest.mark.parametrize("on", [False, True])
def test_eviction_is_off_unless_it_is_written(on):
    assert told(**({"enableEviction": True} if on else {})).eviction is on


UNLISTED = {"priority": 1, "orderingPolicyRef": "fcfs-ordering-policy"}


@pytest.mark.parametrize(
    ("flow", "problem"),
    [
        pytest.param(
            {"usageLimitPolicyPluginRef": "queue-scorer"}, "is no usage-limit-policy", id="kind"
        ),
        pytest.param(
            {"priorityBands": [UNLISTED]}, "add '- type: fcfs-ordering-policy'", id="not-listed"
        ),
        pytest.param(
            {"priorityBands": [{"priority": 1}, {"priority": 1}]}, "has a band already", id="twice"
        ),
    ],
)
def test_what_is_refused(flow, problem):
    with pytest.raises(ConfigError, match=problem):
        assembled(**flow)
