"""The page on configuration holds only what works."""

import re
from pathlib import Path

from epp.assemble import assemble_text, bare_house
from epp.config.outside import file_plugins
from epp.config.schema import EndpointPickerConfig, FlowControl
from epp.discovery.parse import parse_endpoints
from epp.plugins.catalog import CATALOGUE

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_whole_file_is_assembled():
    whole, _ = blocks("yaml")

    assert assemble_text(whole, "page", CATALOGUE, bare_house()).policy.warnings == ()


def test_the_file_of_endpoints_is_read():
    _, endpoints = blocks("yaml")

    assert [(one.namespace, one.port) for one in parse_endpoints(endpoints.encode(), "page")] == [
        ("default", 8000),
        ("default", 8000),
    ]


def test_the_plugin_loads_and_scores(tmp_path):
    (text,) = blocks("python")
    (tmp_path / "short_names.py").write_text(text)
    config = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins: "
    config += re.search(r"`plugins: (\[\{type: short-names-scorer.*?\])`", PAGE)[1]
    (plugin,) = file_plugins(tmp_path / "short_names.py")
    found = assemble_text(config, str(tmp_path / "c.yaml"), CATALOGUE, bare_house())

    assert found.instances["short-names-scorer"].type == plugin.type


def test_every_field_of_the_schema_is_told():
    keys = {f.alias for model in (EndpointPickerConfig, FlowControl) for f in fields(model)}

    assert {key for key in keys if key not in PAGE} == set()


def fields(model):
    return model.model_fields.values()
