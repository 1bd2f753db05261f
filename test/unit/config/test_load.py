import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from epp.config.load import load
from epp.config.schema import EndpointPickerConfig
from epp.errors import ConfigError

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(HEAD + text, "f.yaml")
    return caught.value.problems


def config(text: str) -> EndpointPickerConfig:
    return load(HEAD + text, "f.yaml").config


def test_a_flow_control_block_is_typed():
    flow = config("""
featureGates: [flowControl]
flowControl:
  maxRequests: "20k"
  maxBytes: 4Gi
  defaultRequestTTL: 1m30s
  noEndpointRequestTTL: 5m
  saturationDetector: {pluginRef: concurrency-detector}
  usageLimitPolicyPluginRef: priority-holdback-policy
  defaultPriorityBand: {maxBytes: 1G}
  priorityBands:
  - {priority: 10, maxRequests: "2000", fairnessPolicyRef: round-robin-fairness-policy}
  - {priority: -1, maxRequests: 200}
""").flow_control

    assert flow is not None
    assert (flow.max_requests, flow.max_bytes) == (20_000, 4 * 2**30)
    assert (flow.default_request_ttl, flow.no_endpoint_request_ttl) == (90.0, 300.0)
    assert [(b.priority, b.max_requests) for b in flow.priority_bands] == [(10, 2000), (-1, 200)]


def test_a_gate_is_on_when_it_is_named():
    assert config("featureGates: [flowControl]").gate("flowControl")
    assert config("featureGates: [flowControl=true]").gate("flowControl")
    assert not config("featureGates: [flowControl, flowControl=false]").gate("flowControl")
    assert config("").gate("haPopulateNonLeaderDatastore")


def test_what_has_no_head_is_told_the_two_lines():
    with pytest.raises(ConfigError) as caught:
        load("featureGates: [flowControl]", "f.yaml")

    assert caught.value.problems == (
        "f.yaml:1: apiVersion: is missing; write apiVersion: llm-d.ai/v1alpha1",
        "f.yaml:1: kind: is missing; write kind: EndpointPickerConfig",
    )


def test_all_problems_come_at_once_each_with_line_path_and_fix():
    assert problems("""
plugins:
- typ: queue-scorer
- type: 5
featureGates: [flowcontrol]
schedulingProfile: []
flowControl:
  maxBytes: 4Gib
  defaultRequestTTL: 60
""") == (
        "f.yaml:5: plugins[0].type: is missing; add it",
        "f.yaml:5: plugins[0].typ: unknown key; did you mean 'type'?",
        "f.yaml:6: plugins[1].type: must be text; write it in quotes (it is 5)",
        "f.yaml:7: featureGates: unknown feature gate 'flowcontrol'; did you mean 'flowControl'?",
        "f.yaml:8: schedulingProfile: unknown key; did you mean 'schedulingProfiles'?",
        "f.yaml:10: flowControl.maxBytes: '4Gib' is not a quantity; write for example 5000, 20k, "
        "1G or 4Gi",
        "f.yaml:11: flowControl.defaultRequestTTL: is not a duration; write it with a unit, for "
        "example 60s or 200ms",
    )


def test_a_file_full_of_mistakes_gets_a_hundred_of_them_told():
    found = problems("\n".join(f"key{i}: 1" for i in range(150)))

    assert len(found) == 101
    assert "has 50 more problems" in found[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("plugins: {a: b}", "plugins: "),
        ("plugins: [{type: a, parameters: 5}]", "plugins[0].parameters: "),
        ("dataLayer: {injectDefaults: 'yes'}", "dataLayer.injectDefaults: "),
        ("flowControl: {priorityBands: [{priority: 1.5}]}", "priorityBands[0].priority: "),
        ("flowControl: {maxBytes: -1}", "flowControl.maxBytes: '-1' is out of range"),
        ("flowControl: {maxBytes: true}", "flowControl.maxBytes: is not a quantity"),
        ("flowControl: {defaultRequestTTL: -1s}", "flowControl.defaultRequestTTL: "),
        ("flowControl: {default_request_ttl: 1s}", "did you mean 'defaultRequestTTL'"),
        ("schedulingProfiles: [{name: a, plugins: [{pluginRef: b, weight: -1}]}]", "weight: "),
        ("schedulingProfiles: [{name: a, plugins: [{pluginRef: b, weight: .inf}]}]", "weight: "),
        ("schedulingProfiles: [{name: ''}]", "schedulingProfiles[0].name: "),
    ],
)
def test_a_value_of_another_kind_is_refused(text, said):
    (only,) = problems(text)

    assert said in only


@pytest.mark.parametrize(
    "text",
    ["", "[]", "just text", "kind: EndpointPickerConfig", "apiVersion: v1\nkind: Pod"],
    ids=["empty", "list", "text", "no version", "another kind"],
)
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises(ConfigError):
        load(text, "f.yaml")


def test_the_older_api_version_is_read_with_one_warning():
    text = "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\n"

    (warning,) = load(text, "f.yaml").warnings
    assert warning == "f.yaml:1: apiVersion: is an older name; write llm-d.ai/v1alpha1"


def test_what_stood_at_the_top_level_is_moved_with_one_warning_each():
    loaded = load(HEAD + "parser: {pluginRef: p}\nsaturationDetector: {pluginRef: s}\n", "f.yaml")

    assert loaded.config.request_handler.parsers[0].plugin_ref == "p"
    assert loaded.config.flow_control
    assert loaded.config.flow_control.saturation_detector
    assert loaded.config.flow_control.saturation_detector.plugin_ref == "s"
    assert loaded.warnings == (
        "f.yaml:4: saturationDetector: is deprecated; write it as flowControl.saturationDetector",
        "f.yaml:3: parser: is deprecated; write it as requestHandler.parsers",
    )


def test_a_problem_in_a_moved_block_points_at_the_line_it_was_written_on():
    assert problems("parser: {pluginref: p}")[0].startswith("f.yaml:3: requestHandler.parsers[0]")


def test_the_old_place_beside_the_new_one_is_refused():
    (only,) = problems("parser: {pluginRef: p}\nrequestHandler: {parsers: [{pluginRef: q}]}")

    assert only == (
        "f.yaml:3: parser: stands beside requestHandler.parsers, which replaces it; remove parser"
    )


def test_an_older_gate_is_read_and_warned_of():
    (warning,) = load(HEAD + "featureGates: [prepareDataPlugins]", "f.yaml").warnings

    assert warning == (
        "f.yaml:3: featureGates[0]: prepareDataPlugins has no effect any more; remove it"
    )


KEYS = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "plugins",
        "type",
        "name",
        "parameters",
        "pluginRef",
        "weight",
        "schedulingProfiles",
        "flowControl",
        "maxBytes",
        "priorityBands",
        "parser",
        "dataLayer",
        "saturationDetector",
        "requestHandler",
        "parsers",
        "featureGates",
        "sources",
        "x",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["llm-d.ai/v1alpha1", "EndpointPickerConfig", "4Gi", "60s", "flowControl"])
)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=5), max_leaves=25
)


@given(st.dictionaries(KEYS, VALUES, max_size=8))
@settings(max_examples=150)
def test_any_document_loads_or_is_a_config_error(value):
    whole = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig"} | value

    try:
        loaded = load(yaml.safe_dump(whole), "f.yaml")
    except ConfigError:
        return
    assert loaded.config.kind == "EndpointPickerConfig"


@given(st.text(max_size=60) | st.binary(max_size=60))
@settings(max_examples=150)
def test_any_text_loads_or_is_a_config_error(text):
    with pytest.raises(ConfigError):
        load(text, "f.yaml")
