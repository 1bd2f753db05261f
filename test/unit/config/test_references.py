"""Parameters that name a plugin or a profile: found, added, or told with line, path and fix."""

import re

import pytest

from epp.config.catalogue import Catalogue, Kind
from epp.config.load import load
from epp.config.params import PluginParams, ToProducer
from epp.config.plan import plan
from epp.errors import ConfigError
from epp.plugins.catalog import CATALOGUE

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
ROLES = """\
schedulingProfiles:
- {name: decode, plugins: [{pluginRef: decode-filter}]}
- {name: prefill, plugins: [{pluginRef: decode-filter}]}
"""


def planned(*entries, rest="", catalogue=CATALOGUE):
    plugins = "".join(f"- {entry}\n" for entry in entries)
    return plan(load(f"{HEAD}plugins:\n{plugins}{rest}", "f.yaml"), catalogue)


def problem(*entries, **more):
    with pytest.raises(ConfigError) as caught:
        planned(*entries, **more)
    (only,) = caught.value.problems
    return only


def names(found):
    return [one.name for one in found.plugins]


def reading(producer, type_name="prefix-cache-scorer"):
    return f"{{type: {type_name}, parameters: {{prefixMatchInfoProducerName: {producer}}}}}"


def disagg(**parameters):
    given = ", ".join(f"{name}: {value}" for name, value in parameters.items())
    return "{type: decode-filter}", f"{{type: disagg-profile-handler, parameters: {{{given}}}}}"


# -- producers --------------------------------------------------------------------------------

FIELD = "prefixMatchInfoProducerName"
PREDICTIONS = "latencyPredictionInfoProducerName"


@pytest.mark.parametrize(
    ("type_name", "parameters", "path"),
    [
        ("prefix-cache-scorer", f"{{{FIELD}: nobody}}", FIELD),
        ("prefix-cache-affinity-filter", f"{{{FIELD}: nobody}}", FIELD),
        ("p2p-source-producer", f"{{{FIELD}: nobody}}", FIELD),
        ("latency-scorer", f"{{{PREDICTIONS}: nobody}}", PREDICTIONS),
        ("slo-headroom-tier-filter", f"{{{PREDICTIONS}: nobody}}", PREDICTIONS),
        ("latency-slo-admitter", f"{{{PREDICTIONS}: nobody}}", PREDICTIONS),
        (
            "session-affinity-scorer",
            "{strategy: session_id, sessionIdConfig: "
            "{sources: [{attribute: SessionID, producer: nobody}]}}",
            "sessionIdConfig.sources[0].producer",
        ),
    ],
)
def test_a_producer_that_is_not_there_is_told_with_its_place(type_name, parameters, path):
    said = problem(f"{{type: {type_name}, parameters: {parameters}}}")

    assert said.startswith(f"f.yaml:4: plugins[0].parameters.{path}: no plugin that writes ")
    assert "is named 'nobody'; valid: " in said


def test_a_slip_of_the_pen_is_told_the_nearest_name():
    entry = "{name: exact, type: precise-prefix-cache-producer}"

    assert problem(entry, reading("exat")).endswith("did you mean 'exact'?")


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("queue-scorer", "'queue-scorer' writes nothing, being a scorer; matches of cached"),
        ("mm-embeddings-cache-producer", "writes matches of encoded media (columns of the pool);"),
        ("session-id-producer", "writes session ids (facts of a request); matches of cached"),
        ("predicted-latency-producer", "writes predictions of latency (columns of the pool);"),
    ],
)
def test_a_producer_of_another_kind_is_a_type_error(named, said):
    parameters = ", parameters: {headerName: x}" if named == "session-id-producer" else ""

    assert said in problem(f"{{type: {named}{parameters}}}", reading(named))


@pytest.mark.parametrize(
    "named",
    [
        "approx-prefix-cache-producer",
        "precise-prefix-cache-producer",
        "burst-prefix-cache-producer",
    ],
)
def test_a_type_that_nobody_configured_is_added_and_no_other(named):
    found = planned(reading(named))

    assert [one.type for one in found.producers] == [named]
    assert found.producers[0].because == "prefix-cache-scorer names it"


def test_who_names_nobody_gets_the_default_producer():
    (producer,) = planned("{type: prefix-cache-scorer}").producers

    assert producer.name == "approx-prefix-cache-producer"


@pytest.mark.parametrize(
    "entry",
    [
        "{name: exact, type: precise-prefix-cache-producer}",
        "{name: exact, type: precise-prefix-cache-scorer}",
    ],
    ids=["renamed", "the older plugin that is both"],
)
def test_what_has_another_name_here_is_not_added_twice(entry):
    said = problem(entry, reading("precise-prefix-cache-producer"))

    assert said.endswith("the one of this type is called 'exact'")


def test_a_broken_producer_is_not_told_again_where_it_is_named():
    said = problem(
        "{type: approx-prefix-cache-producer, parameters: {blockSizeTokens: no}}",
        reading("approx-prefix-cache-producer"),
    )

    assert "blockSizeTokens" in said


def test_a_filter_by_predictions_brings_their_producer_along():
    entry = "{type: prefix-cache-affinity-filter, parameters: {ttftSource: latencyPredictor}}"

    assert "predicted-latency-producer" in names(planned(entry))


SESSIONS = (
    "{type: session-affinity-scorer, parameters: {strategy: session_id, "
    "sessionIdConfig: {sources: [{attribute: %s}]}}}"
)


def test_a_session_id_that_nobody_finds_out_is_told_with_its_field():
    said = problem(SESSIONS % "SessionID")

    assert said.startswith("f.yaml:4: plugins[0].parameters.sessionIdConfig.sources[0].attribute: ")
    assert said.endswith("add one of: session-id-producer")


def test_an_attribute_of_another_name_is_no_session_id():
    assert "write that" in problem(SESSIONS % "Session")


# -- deciders and profiles --------------------------------------------------------------------


def test_a_known_decider_that_is_not_listed_is_added():
    found = planned(*disagg(deciders="{prefill: always-disagg-pd-decider}"), rest=ROLES)

    assert "always-disagg-pd-decider" in names(found)
    assert not [warning for warning in found.warnings if "decider" in warning]


def test_a_decider_that_never_says_yes_by_its_defaults_is_warned_of():
    found = planned(*disagg(deciders="{prefill: prefix-based-pd-decider}"), rest=ROLES)

    assert "prefix-based-pd-decider" in names(found)
    (warning,) = [each for each in found.warnings if "decider" in each]
    assert warning.startswith("f.yaml:5: plugins[1].parameters.deciders.prefill: ")
    assert "nonCachedTokens is 0, which never disaggregates" in warning


@pytest.mark.parametrize("named", ["nobody", "decode-filter"])
def test_who_decides_nothing_is_no_decider(named):
    said = problem(*disagg(deciders=f"{{prefill: {named}}}"), rest=ROLES)

    assert said.startswith("f.yaml:5: plugins[1].parameters.deciders.prefill: ")
    assert "verdicts on where a stage runs" in said


def test_the_older_handlers_decider_is_looked_up_too():
    handler = "{type: pd-profile-handler, parameters: {deciderPluginName: nobody}}"

    assert "deciderPluginName: no plugin" in problem("{type: decode-filter}", handler, rest=ROLES)


@pytest.mark.parametrize(
    ("handler", "path", "profile"),
    [
        pytest.param("{type: disagg-profile-handler}", "profiles.decode", "decode", id="disagg"),
        pytest.param("{type: header-profile-handler}", "defaultProfile", "decode", id="header"),
        pytest.param(
            "{type: disagg-profile-handler, parameters: {profiles: {decode: a}, "
            "deciders: {encode: always-disagg-multimodal-decider}}}",
            "profiles.encode",
            "encode",
            id="encode",
        ),
        pytest.param(
            "{type: disagg-profile-handler, parameters: {profiles: {decode: a}, "
            "stageOrder: prefill-first}}",
            "profiles.prefill",
            "prefill",
            id="prefill-first",
        ),
        pytest.param(
            "{type: pd-profile-handler, parameters: {decodeProfile: a}}",
            "prefillProfile",
            "prefill",
            id="pd",
        ),
        pytest.param(
            "{type: session-affinity-scorer, parameters: {profileName: chat}}",
            "profileName",
            "chat",
            id="session",
        ),
    ],
)
def test_a_profile_that_is_not_there_is_told_with_its_place(handler, path, profile):
    said = problem("{type: queue-scorer}", handler, rest="schedulingProfiles: [{name: a}]")

    assert re.fullmatch(
        rf"f\.yaml:5: plugins\[1\]\.parameters\.{re.escape(path)}: no profile is called "
        rf"'{profile}'; add it under schedulingProfiles, or name one of those there are: a",
        said,
    )


# -- plugins of one's own ---------------------------------------------------------------------


class Heat:
    """Declares the column under its own name alone."""

    type = "heat"
    produces_named = ("heat",)

    def columns(self, request, pool): ...


class Cool:
    type = "cool"

    class Params(PluginParams):
        source: str = ""

        def refers(self):
            yield ToProducer(("source",), self.source, "heat")

    def __init__(self, params: Params) -> None: ...

    def score(self, request, pool): ...


class Early(Heat):
    type = "early"
    columns = None

    def gather(self, request): ...


class Clumsy:
    type = "clumsy"

    class Params(PluginParams):
        def refers(self):
            raise KeyError("oops")

    def __init__(self, params: Params) -> None: ...

    def score(self, request, pool): ...


OWN = CATALOGUE.plus([Heat, Cool, Early, Clumsy])


def test_an_own_plugin_names_its_producer():
    found = planned("{type: cool, parameters: {source: heat}}", catalogue=OWN)

    assert [one.type for one in found.producers] == ["heat"]


def test_what_is_written_for_those_who_name_it_is_not_for_everybody():
    assert "which nothing produces" in problem("{type: heat}", "{type: cool}", catalogue=OWN)


def test_a_fact_and_a_column_are_two_things():
    catalogue = Catalogue.of([Early], kinds={"heat": Kind("temperatures")})
    said = problem("{type: early}", rest="schedulingProfiles: []", catalogue=catalogue.plus([Pick]))

    assert "temperatures (columns of the pool) are written by a pool-producer" in said


def test_a_plugin_that_cannot_say_what_it_names_is_told():
    assert "refers of clumsy fails: KeyError: 'oops'" in problem("{type: clumsy}", catalogue=OWN)


class Pick:
    type = "max-score-picker"

    def pick(self, request, pool, totals): ...


def test_every_thing_that_is_declared_has_a_kind():
    declared = {
        name
        for plugin in CATALOGUE.classes.values()
        for attribute in ("produces", "produces_named", "consumes")
        for name in getattr(plugin, attribute, ())
    }

    assert declared <= CATALOGUE.kinds.keys()
