"""The data layer's list says which page of each endpoint is read, and by what."""

import pytest

from epp.app.sources import (
    dialects_of,
    discovery_of,
    fetch_settings_of,
    further_pages_of,
    reads_metrics,
    scrape_settings_of,
)
from epp.assemble import assemble_text, bare_house
from epp.config.options import RunOptions
from epp.errors import ConfigError
from epp.plugins.catalog import CATALOGUE
from epp.plugins.sources.discovery import FileDiscoveryPlugin

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: queue-scorer\n"
GPUS = "- {name: gpus, type: metrics-data-source, parameters: {port: 9400, path: /gpu}}\n"
ENGINES = "- {name: engines, type: metrics-data-source, parameters: {interval: 500ms}}\n"
MINE = (
    "- name: mine\n  type: core-metrics-extractor\n"
    "  parameters: {engineConfigs: [{name: own, queuedRequestsSpec: 'own:q'}]}\n"
)
OTHER = "- {name: other, type: core-metrics-extractor}\n"
READ = "{pluginRef: engines, extractors: [{pluginRef: mine}]}"


def assembled(entries, *sources, **layer):
    listed = f"sources: [{', '.join(sources)}]" if sources else ""
    more = [f"{key}: {value}" for key, value in layer.items()]
    data = ", ".join(part for part in [listed, *more] if part)
    text = f"{HEAD}{entries}dataLayer: {{{data}}}\n"
    return assemble_text(text, "f.yaml", CATALOGUE, bare_house(seed=1))


def problem(*given):
    with pytest.raises(ConfigError) as caught:
        assembled(*given)
    (only,) = caught.value.problems
    return only


def asked(assembly):
    """Port and path of the page, shortest interval, engines known by name."""
    fetch, pace = fetch_settings_of(assembly), scrape_settings_of(RunOptions(), assembly)
    own = dialects_of(assembly).choose({"llm-d.ai/engine-type": "own"}, b"").name
    return fetch.port, fetch.path, pace.busy, own


def test_the_listed_source_and_its_extractor_count_though_others_come_first():
    assert asked(assembled(GPUS + OTHER + ENGINES + MINE, READ)) == (None, "/metrics", 0.5, "own")


def test_what_no_list_names_is_warned_of():
    warnings = assembled(GPUS + OTHER + ENGINES + MINE, READ).policy.warnings

    assert [warning.split(": ")[2].split()[0] for warning in warnings] == ["gpus", "other"]


def test_without_a_list_the_configured_source_is_the_default_one():
    assert asked(assembled(GPUS + MINE)) == (9400, "/gpu", 0.05, "own")


def test_a_second_source_of_metrics_is_a_problem_with_the_fix():
    gpus = "{pluginRef: gpus, extractors: [{pluginRef: other}]}"

    assert problem(ENGINES + MINE + GPUS + OTHER, READ, gpus) == (
        "f.yaml:11: dataLayer.sources[1].pluginRef: gpus is a second source of metrics beside "
        "engines, and requests are counted on one page; give it an extractor with customMetrics "
        "alone, or remove it"
    )


HEAT = (
    "- name: heat\n  type: core-metrics-extractor\n  parameters: {engineConfigs: "
    "[{name: vllm, customMetrics: [{attributeKey: heat, metricSpec: 'gpu_util{gpu=0}'}]}]}\n"
)
HOT = "{pluginRef: gpus, extractors: [{pluginRef: heat}]}"


@pytest.mark.parametrize("listed", [(HOT, READ), (READ, HOT)], ids=["first", "last"])
def test_a_source_with_custom_metrics_alone_is_a_further_page_wherever_it_stands(listed):
    assembly = assembled(GPUS + HEAT + ENGINES + MINE, *listed)
    (page,) = further_pages_of(RunOptions(), assembly)

    assert asked(assembly) == (None, "/metrics", 0.5, "own")
    assert (page.name, list(page.custom), page.interval) == ("gpus", ["heat"], 1.0)


def test_alone_custom_metrics_are_read_on_the_engines_page():
    assembly = assembled(ENGINES + HEAT, HOT.replace("gpus", "engines"))
    dialect = dialects_of(assembly).choose({}, b"vllm:num_requests_running 1\n")
    sample = dialect.sample(b'vllm:num_requests_running 1\ngpu_util{gpu="0"} 0.5\n')

    assert further_pages_of(RunOptions(), assembly) == ()
    assert (sample.running, sample.custom) == (1, {"heat": 0.5})


def test_custom_metrics_of_an_unknown_engine_alone_are_refused():
    with pytest.raises(ConfigError, match="'foo': give a spec of queued or of running requests"):
        dialects_of(assembled(HEAT.replace("vllm", "foo")))


def test_two_extractors_of_gauges_are_a_problem():
    both = "{pluginRef: engines, extractors: [{pluginRef: mine}, {pluginRef: other}]}"

    assert "has two extractors of gauges" in problem(ENGINES + MINE + OTHER, both)


def test_of_a_source_without_extractor_nothing_is_read_and_that_is_said():
    assembly = assembled(ENGINES, "{pluginRef: engines}")

    assert not reads_metrics(assembly)
    assert "engines names no core-metrics-extractor" in assembly.policy.warnings[0]


def test_nothing_is_read_where_nothing_is_listed_nor_added():
    assembly = assembled("", injectDefaults="false")

    assert not reads_metrics(assembly)
    assert "known by what is sent to them alone" in assembly.policy.warnings[0]


def test_topology_is_known_without_a_source_that_names_its_extractor():
    assert assembled("- type: topology-extractor\n").policy.warnings == ()


def test_the_discovery_that_is_named_counts():
    files = "".join(
        f"- {{name: {name}, type: {FileDiscoveryPlugin.type}, parameters: {{path: /{name}}}}}\n"
        for name in ("first", "second")
    )
    assembly = assembled(files, discovery="{pluginRef: second}")
    found = discovery_of(RunOptions(), assembly, FakeStore(), None, print)

    assert str(found.path) == "/second"


def test_without_endpoints_every_way_to_name_them_is_told():
    ways = (
        "--endpoints FILE, --pool-name NAME, --endpoint-selector LABELS or a file-discovery plugin"
    )

    with pytest.raises(ConfigError, match=ways):
        discovery_of(RunOptions(), assembled(""), FakeStore(), None, print)


class FakeStore:
    """Takes endpoints."""

    def set_endpoints(self, source, endpoints): ...
