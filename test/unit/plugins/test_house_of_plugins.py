"""Every plugin's docstring is in form, its example loads, and a test exercises it."""

from pathlib import Path

import pytest
import yaml

from epp.assemble import assemble_text, bare_house
from epp.config.catalogue import points_of
from epp.errors import ConfigError
from epp.plugins.catalog import CATALOGUE, NOT_TAKEN
from epp.plugins.document import (
    MIGRATION,
    PAGE,
    document,
    example_of,
    main,
    migration,
    page_of,
)

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
PROFILES = "\nschedulingProfiles: [{name: decode}, {name: prefill}, {name: chat}]\n"
TESTS = [file.read_text() for file in Path(__file__).parents[1].rglob("test_*.py")]
OURS = list(CATALOGUE.classes.values())
by_type = pytest.mark.parametrize("plugin", OURS, ids=lambda plugin: plugin.type)


@by_type
def test_the_docstring_is_in_form(plugin):
    assert page_of(plugin).type == plugin.type


@by_type
def test_every_parameter_is_explained(plugin):
    explained = page_of(plugin).sections["Parameters"]
    fields = getattr(plugin, "Params", None)
    names = [f.alias for f in fields.model_fields.values()] if fields else []

    assert [name for name in names if name not in explained] == []
    assert names or explained.startswith("none")


@by_type
def test_the_example_loads(plugin):
    entries = yaml.safe_load(example_of(plugin))

    assert plugin.type in [entry["type"] for entry in entries]
    for entry in entries:
        found = CATALOGUE.find(entry["type"])
        if "parameters" in entry:
            found.Params.model_validate(entry["parameters"])


@by_type
def test_the_example_is_a_configuration(plugin):
    text = HEAD + "plugins:\n" + example_of(plugin)
    if "profile-handler" in points_of(plugin):
        text += PROFILES

    assert assemble_text(text, "here.yaml", CATALOGUE, bare_house(seed=1)).policy.scheduler


@by_type
def test_a_test_names_the_class(plugin):
    assert any(plugin.__name__ in test for test in TESTS)


@by_type
def test_the_module_stands_in_the_folder_of_its_kind(plugin):
    assert plugin.__module__.startswith("epp.plugins.")


def test_old_names_lead_to_types_that_are_there():
    assert [old for old in CATALOGUE.aliases if CATALOGUE.find(old) is None] == []


def test_nothing_is_both_offered_and_refused():
    assert not CATALOGUE.refusals.keys() & (CATALOGUE.classes.keys() | CATALOGUE.aliases.keys())


def test_every_refusal_says_why_and_what_instead():
    assert all(refusal.reason and refusal.instead for refusal in CATALOGUE.refusals.values())


def test_default_producers_make_what_they_are_asked_for():
    for name, type_name in CATALOGUE.default_producers.items():
        assert name in CATALOGUE.classes[type_name].produces


def test_the_pages_are_fresh():
    assert PAGE.read_text() == document()
    assert main(["--check"]) == 0


def test_the_table_of_parsers_is_written_anew_whatever_it_says():
    page = MIGRATION.read_text()
    table = page.index("| [`openai-parser`]")

    assert migration(page[:table] + "| old | row | here |\n" + page[table:]) == page


@pytest.mark.parametrize("refusal", NOT_TAKEN, ids=lambda refusal: refusal.type)
def test_a_parameter_that_is_told_as_refused_is(refusal):
    type_name = refusal.type.partition(":")[0]
    name = {"token-producer": "udsTokenizerConfig"}.get(type_name, "predictionServerUrl")
    value = "{socketFile: /tmp/s}" if type_name == "token-producer" else "http://here"
    text = HEAD + f"plugins: [{{type: {type_name}, parameters: {{{name}: {value}}}}}]\n"

    with pytest.raises(ConfigError, match=name):
        assemble_text(text, "here.yaml", CATALOGUE, bare_house(seed=1))
