"""Planning and building, with small plugins of our own; the shipped ones are in the examples."""

import itertools
import random

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from support.pools import pool, request

from epp.assemble import House, assemble, assemble_text, bare_house
from epp.config.catalogue import Catalogue
from epp.config.load import load
from epp.config.params import PluginParams
from epp.config.plan import plan
from epp.datastore.shelf import Shelves
from epp.errors import ConfigError


class Low:
    type = "low"

    def score(self, request, pool):
        return np.linspace(1, 0, len(pool))


class High:
    type = "high"

    class Params(PluginParams):
        at_most: float = Field(default=1.0, le=1.0)

    def __init__(self, params: Params) -> None:
        self.at_most = params.at_most

    def score(self, request, pool):
        return np.linspace(0, self.at_most, len(pool))


class DropFirst:
    type = "drop-first"

    def filter(self, request, pool):
        return np.arange(len(pool)) > 0


class FilterAndScore:
    type = "filter-and-score"

    def filter(self, request, pool):
        return np.arange(len(pool)) < 2

    def score(self, request, pool):
        return np.linspace(0, 1, len(pool))


class Best:
    type = "max-score-picker"

    def pick(self, request, pool, totals):
        return [int(np.argmax(totals))]


class Worst:
    type = "worst-picker"

    def pick(self, request, pool, totals):
        return [int(np.argmin(totals))]


class One:
    type = "one-handler"

    def next_profiles(self, request, results, names):
        return () if results else names[:1]

    def primary(self, results):
        return next(iter(results))


class Other(One):
    type = "other-handler"


class Parser:
    type = "openai-parser"
    paths = ("chat/completions",)

    def parse(self, head, body): ...


class Blocks:
    type = "blocks"
    produces = ("blocks",)

    def gather(self, request):
        return None


class Matches:
    type = "matches"
    consumes = ("blocks",)
    produces = ("matches",)

    def columns(self, request, pool):
        return {"matches": np.zeros(len(pool))}


class Matched:
    type = "matched"
    consumes = ("matches",)

    def score(self, request, pool):
        return pool["matches"]


class Chicken:
    type = "chicken"
    consumes, produces = ("egg",), ("chicken",)

    def columns(self, request, pool):
        return {}


class Egg:
    type = "egg"
    consumes, produces = ("chicken",), ("egg",)

    def columns(self, request, pool):
        return {}


class Hasty:
    type = "hasty"
    consumes = ("matches",)

    def gather(self, request):
        return None


class Counts:
    """Remembers, through tools, how many ends it has seen."""

    type = "counts"

    def __init__(self, tools) -> None:
        self.tools = tools
        self.seen = tools.state.keep("seen", itertools.count)

    def used(self, request, decision, usage): ...

    def ended(self, request, decision, ending):
        return next(self.seen)


class Source:
    type = "metrics-data-source"
    point = "data-source"


class Extractor:
    type = "core-metrics-extractor"
    point = "extractor"


class Explodes:
    type = "explodes"

    def __init__(self) -> None:
        raise RuntimeError("no fuse")

    def score(self, request, pool): ...


ALL = (Low, High, DropFirst, FilterAndScore, Best, Worst, One, Other, Parser, Blocks, Matches)
ALL += (Matched, Chicken, Egg, Hasty, Counts, Source, Extractor, Explodes)
CATALOGUE = Catalogue.of(
    ALL, aliases={"lowest": "low"}, default_producers={"matches": "matches", "blocks": "blocks"}
)
HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"


def planned(text):
    return plan(load(HEAD + text, "f.yaml"), CATALOGUE)


def assembled(text, house=None):
    return assemble(load(HEAD + text, "f.yaml"), CATALOGUE, house or bare_house())


def problems(text):
    with pytest.raises(ConfigError) as caught:
        assembled(text)
    return caught.value.problems


def problem(text):
    (only,) = problems(text)
    return only


def picked(text, size=4):
    scheduler = assembled(text).policy.scheduler
    return scheduler.schedule(request(b"x"), pool(size)).endpoint.name


def names(planned):
    return [one.name for one in planned]


# -- profiles ---------------------------------------------------------------------------------


def test_without_profiles_one_holds_everything_in_the_order_of_the_file():
    (only,) = planned("plugins: [{type: high}, {type: filter-and-score}, {type: low}]").profiles

    assert only.name == "default"
    assert names(scorer for scorer, _ in only.scorers) == ["high", "filter-and-score", "low"]
    assert names(only.filters) == ["filter-and-score"]
    assert only.picker.type == "max-score-picker"


def test_weights_decide_between_scorers():
    text = """
plugins: [{type: low}, {type: high}]
schedulingProfiles:
- name: p
  plugins: [{pluginRef: low, weight: %s}, {pluginRef: high}]
"""
    assert picked(text % 2) == "pod-0"
    assert picked(text % 0.5) == "pod-3"


def test_a_plugin_may_filter_and_score_under_one_reference():
    assert picked("plugins: [{type: filter-and-score}]") == "pod-1"


def test_the_only_configured_picker_serves_a_profile_that_names_none():
    assert picked("plugins: [{type: low}, {type: worst-picker}]") == "pod-3"
    text = "plugins: [{type: low}, {type: worst-picker}]\nschedulingProfiles: "
    assert picked(text + "[{name: a, plugins: [{pluginRef: low}]}]") == "pod-3"


def test_two_instances_of_one_type_have_two_names_and_parameters():
    built = assembled(
        "plugins: [{type: high}, {name: flat, type: high, parameters: {atMost: 0.5}}]"
    ).instances

    assert (built["high"].at_most, built["flat"].at_most) == (1.0, 0.5)


PROFILE = "schedulingProfiles: [{name: p, plugins: [%s]}]"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(
            "plugins: [{type: loww}]",
            "f.yaml:3: plugins[0].type: unknown plugin type 'loww'; did you mean 'low'?",
            id="type",
        ),
        pytest.param(
            "plugins: [{type: low}, {type: low}]",
            "f.yaml:3: plugins[1]: a plugin named 'low' exists; give this one another name",
            id="name twice",
        ),
        pytest.param(
            "plugins: [{type: low, parameters: {a: 1}}]",
            "f.yaml:3: plugins[0].parameters: low takes no parameters; remove them",
            id="no parameters",
        ),
        pytest.param(
            "plugins: [{type: high, parameters: {atmost: 1}}]",
            "f.yaml:3: plugins[0].parameters.atmost: unknown key; did you mean 'atMost'?",
            id="parameter",
        ),
        pytest.param(
            "plugins: [{type: high, parameters: {at_most: 1}}]",
            "f.yaml:3: plugins[0].parameters.at_most: unknown key; did you mean 'atMost'?",
            id="snake case",
        ),
        pytest.param(
            "plugins: [{type: high, parameters: {atMost: '1'}}]",
            "f.yaml:3: plugins[0].parameters.atMost: input should be a valid number "
            "(it is the text '1')",
            id="kind of value",
        ),
        pytest.param(
            "plugins: [{type: high}]\n" + PROFILE % "{pluginRef: hihg}",
            "f.yaml:4: schedulingProfiles[0].plugins[0].pluginRef: no plugin is named 'hihg'; "
            "did you mean 'high'?",
            id="reference",
        ),
        pytest.param(
            "plugins: [{type: high}]\n" + PROFILE % "{pluginRef: low}",
            "f.yaml:4: schedulingProfiles[0].plugins[0].pluginRef: no plugin is named 'low'; "
            "add '- type: low' under plugins",
            id="type not configured",
        ),
        pytest.param(
            "plugins: [{type: low}]\nrequestHandler: {parsers: [{pluginRef: low}]}",
            "f.yaml:4: requestHandler.parsers[0].pluginRef: 'low' is no parser; the type low is "
            "a scorer",
            id="scorer as parser",
        ),
        pytest.param(
            "plugins: [{type: max-score-picker}, {type: worst-picker}]",
            "f.yaml:3: plugins[1]: worst-picker is a second picker in profile default, beside "
            "max-score-picker; keep one",
            id="two pickers",
        ),
        pytest.param(
            "plugins: [{type: low}]\n" + PROFILE % "{pluginRef: low}, {pluginRef: low}",
            "f.yaml:4: schedulingProfiles[0].plugins[1]: low is in this profile already; "
            "remove one",
            id="twice in a profile",
        ),
        pytest.param(
            "plugins: [{type: one-handler}, {type: other-handler}]",
            "f.yaml:3: plugins[1]: other-handler is a second profile handler beside one-handler",
            id="two handlers",
        ),
        pytest.param(
            "schedulingProfiles: [{name: a}, {name: b}]",
            "f.yaml:3: schedulingProfiles: 2 profiles need a profile handler; add one under "
            "plugins (one-handler, other-handler)",
            id="no handler",
        ),
        pytest.param(
            "plugins: [{type: one-handler}]\nschedulingProfiles: [{name: a}, {name: a}]",
            "f.yaml:4: schedulingProfiles[1].name: a profile named 'a' exists; rename this one",
            id="profile twice",
        ),
        pytest.param(
            "plugins: [{type: chicken}, {type: egg}]",
            "f.yaml:3: plugins[0]: plugins consume each other's output in a circle: "
            "chicken <- egg <- chicken",
            id="circle",
        ),
        pytest.param(
            "plugins: [{type: hasty}]",
            "f.yaml:3: plugins[0]: hasty gathers facts before admission but consumes a column of "
            "matches, which comes after it; make it a producer of columns",
            id="too early",
        ),
        pytest.param(
            "plugins: [{type: low}]\ndataLayer: {peerDiscovery: {pluginRef: low}}",
            "f.yaml:4: dataLayer.peerDiscovery: is not offered: no plugin of this kind exists; "
            "remove it",
            id="peers",
        ),
        pytest.param(
            "plugins: [{type: explodes}]",
            "f.yaml:3: plugins[0]: explodes cannot be built: RuntimeError: no fuse",
            id="constructor",
        ),
    ],
)
def test_a_mistake_is_told_with_line_path_and_fix(text, said):
    assert problem(text) == said


def test_mistakes_come_all_at_once():
    text = "plugins: [{type: a}, {type: high, parameters: {b: 1}}]\n" + PROFILE % "{pluginRef: c}"

    assert len(problems(text)) == 3


def test_a_reference_to_a_broken_entry_is_not_told_again():
    text = "plugins: [{type: high, parameters: {b: 1}}]\n" + PROFILE % "{pluginRef: high}"

    assert len(problems(text)) == 1


def test_an_old_type_name_works_with_a_warning():
    assert planned("plugins: [{type: lowest}]").warnings == (
        "f.yaml:3: plugins[0].type: lowest is a deprecated name; write low",
    )


def test_what_nothing_names_is_warned_of():
    text = "plugins: [{type: low}, {type: high}]\n" + PROFILE % "{pluginRef: low}"

    assert planned(text).warnings == (
        "f.yaml:3: plugins[1]: high (scorer) is configured but nothing names it",
    )


# -- producers --------------------------------------------------------------------------------


def test_missing_producers_are_added_and_run_after_what_they_consume():
    found = planned("plugins: [{type: matched}]")

    assert names(found.producers) == ["blocks", "matches"]
    assert [p.because for p in found.producers] == [
        "matches consumes blocks",
        "matched consumes matches",
    ]


def test_configured_producers_are_not_added_again_but_put_in_order():
    found = planned("plugins: [{type: matches}, {name: mine, type: blocks}, {type: matched}]")

    assert names(found.producers) == ["mine", "matches"]
    assert {p.origin for p in found.producers} == {"file"}


def test_a_consumer_without_default_producer_is_told_who_could_produce():
    catalogue = Catalogue.of([Matched, Matches, Best, Blocks])
    with pytest.raises(ConfigError, match="consumes 'matches', which nothing produces; add one of"):
        plan(load(HEAD + "plugins: [{type: matched}]", "f.yaml"), catalogue)


# -- what is left out -------------------------------------------------------------------------


def test_parsers_and_the_metrics_source_are_added():
    found = planned("plugins: [{type: low}]")

    assert names(found.parsers) == ["openai-parser"]
    assert [(s.source.name, names(s.extractors)) for s in found.sources] == [
        ("metrics-data-source", ["core-metrics-extractor"])
    ]


def test_nothing_is_added_to_the_data_layer_when_told_so():
    assert planned("dataLayer: {injectDefaults: false}").sources == ()


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        pytest.param(
            "plugins: [{type: drop-first}, {type: low}]\n"
            + PROFILE % "{pluginRef: drop-first, weight: 2}, {pluginRef: low}",
            "f.yaml:4: schedulingProfiles[0].plugins[0].weight: drop-first is no scorer; only "
            "scorers have a weight, remove it",
            id="weight",
        ),
        pytest.param(
            "plugins: [{type: openai-parser}, {type: low}]\nrequestHandler: {parsers: [{pluginRef: "
            "openai-parser}]}\n" + PROFILE % "{pluginRef: openai-parser}, {pluginRef: low}",
            "f.yaml:5: schedulingProfiles[0].plugins[0].pluginRef: openai-parser has no part in a "
            "profile, being a parser; remove it here",
            id="member",
        ),
    ],
)
def test_what_go_pickers_pass_over_is_warned_of(text, warning):
    found = planned(text)

    assert found.warnings == (warning,)
    assert names(p for p, _ in found.profiles[0].scorers) == ["low"]


def test_a_profile_without_scorer_is_warned_of():
    assert "picks at random" in planned("plugins: []").warnings[0]


# -- building ---------------------------------------------------------------------------------


def test_each_plugin_stands_where_its_methods_belong():
    policy = assembled("plugins: [{type: matched}, {type: counts}]").policy

    assert [p.type for p in policy.fact_producers] == ["blocks"]
    assert [p.type for p in policy.pool_producers] == ["matches"]
    assert [p.type for p in policy.usage_readers] == ["counts"]
    assert [p.type for p in policy.end_observers] == ["counts"]
    assert [p.type for p in policy.parsers] == ["openai-parser"]


def test_blind_plugins_are_known_by_response_mode():
    assert assembled("plugins: [{type: counts}, {type: low}]").policy.blind == {
        "full": (),
        "watch": ("counts",),
        "forget": ("counts",),
    }


def test_a_plugin_that_asks_for_tools_knows_its_name():
    assert assembled("plugins: [{name: it, type: counts}]").instances["it"].tools.name == "it"


def house(shelves, **fields) -> House:
    given = {"clock": lambda: 0.0, "random": random.Random(1), "secret": b"k" * 32}
    return House(**(given | {"shelf": shelves.shelf} | fields))


def test_state_outlives_a_reload_of_a_plugin_with_the_same_name_and_type():
    lent = house(Shelves())
    old = assembled("plugins: [{type: counts}]", lent).policy.end_observers[0]
    assert old.ended(None, None, None) == 0

    new = assembled("plugins: [{type: low}, {type: counts}]", lent)
    assert new.policy.end_observers[0].ended(None, None, None) == 1


def test_plugins_are_measured_by_point_type_and_name():
    calls = []

    def measure(*names):
        return lambda seconds: calls.append(names)

    lent = house(Shelves(), measure=measure)
    policy = assembled("plugins: [{name: mine, type: low}]", lent).policy
    policy.scheduler.schedule(request(b"x"), pool(2))

    assert calls == [
        ("scorer", "low", "mine"),
        ("picker", "max-score-picker", "max-score-picker"),
    ]


def test_without_a_text_the_built_in_default_is_assembled():
    from epp.plugins.catalog import CATALOGUE as SHIPPED

    found = assemble_text(None, "", SHIPPED, bare_house(seed=1))

    assert found.plan.loaded.origin == "built-in default"
    assert found.policy.warnings == ()
    assert found.policy.scheduler.schedule(request(b"x" * 500), pool(8)).endpoint


def test_a_scorer_in_a_file_changes_picks(tmp_path):
    (tmp_path / "mine.py").write_text(
        "class Mine:\n"
        "    type = 'my-scorer'\n"
        "    def score(self, request, pool):\n"
        "        return [e.name == 'pod-2' for e in pool.endpoints]\n"
    )
    text = HEAD + "plugins: [{type: my-scorer, file: mine.py}]"
    found = assemble(load(text, str(tmp_path / "c.yaml")), CATALOGUE, bare_house())

    assert found.policy.scheduler.schedule(request(b"x"), pool(4)).endpoint.name == "pod-2"


def test_a_type_that_its_file_does_not_define_is_told_what_is_there(tmp_path):
    (tmp_path / "mine.py").write_text("class A:\n    type = 'a'\n    def score(self, r, p): ...\n")
    text = HEAD + "plugins: [{type: b, file: mine.py}]"
    with pytest.raises(ConfigError, match=r"mine\.py defines no 'b'; valid: a"):
        plan(load(text, str(tmp_path / "c.yaml")), CATALOGUE)


TYPES = st.sampled_from([*(plugin.type for plugin in ALL), "lowest", "nobody"])
ENTRIES = st.fixed_dictionaries(
    {"type": TYPES},
    optional={
        "name": st.sampled_from(["a", "b", "low"]),
        "parameters": st.dictionaries(st.sampled_from(["atMost", "x"]), st.integers(0, 2)),
    },
)
MEMBERS = st.fixed_dictionaries(
    {"pluginRef": TYPES | st.sampled_from(["a", "b"])},
    optional={"weight": st.integers(-1, 3)},
)
PROFILES = st.fixed_dictionaries(
    {"name": st.sampled_from(["p", "q"]), "plugins": st.lists(MEMBERS, max_size=4)}
)
CONFIGS = st.fixed_dictionaries(
    {"plugins": st.lists(ENTRIES, max_size=6)},
    optional={"schedulingProfiles": st.lists(PROFILES, max_size=3)},
)


@given(CONFIGS)
@settings(max_examples=150)
def test_any_configuration_is_assembled_and_schedules_or_is_a_config_error(value):
    try:
        policy = assembled(yaml.safe_dump(value)).policy
    except ConfigError:
        return
    view = pool(3)
    for producer in policy.pool_producers:
        view = view.having(producer.columns(request(b"x"), view))
    assert policy.scheduler.schedule(request(b"x"), view).endpoint in view.endpoints
