import pytest

from epp.config.catalogue import Catalogue, Refusal, points_of
from epp.config.params import PluginParams
from epp.errors import ConfigError


class Scorer:
    type = "a-scorer"

    def score(self, request, pool): ...


class Twin:
    type = "a-scorer"

    def score(self, request, pool): ...


class Both:
    type = "both"

    def filter(self, request, pool): ...

    def score(self, request, pool): ...


class Source:
    type = "source"
    point = "data-source"


class Nameless:
    def score(self, request, pool): ...


class Idle:
    type = "idle"

    def scores(self, request, pool): ...


class Greedy:
    type = "greedy"

    def __init__(self, params, database): ...

    def score(self, request, pool): ...


class Loose:
    type = "loose"

    class Params:
        size: int = 1

    def __init__(self, params): ...

    def score(self, request, pool): ...


class Deaf:
    type = "deaf"

    class Params(PluginParams):
        size: int = 1

    def score(self, request, pool): ...


class Wanting:
    type = "wanting"

    def __init__(self, params): ...

    def score(self, request, pool): ...


class Single:
    type = "single"
    consumes = "matches"

    def score(self, request, pool): ...


class Short:
    type = "short"

    def score(self, pool): ...


class Demanding:
    type = "demanding"

    def filter(self, request, pool, weight): ...


class Waiting:
    type = "waiting"

    async def score(self, request, pool): ...


def test_a_plugin_takes_part_where_it_has_the_methods():
    assert points_of(Both) == ("filter", "scorer")
    assert points_of(Source) == ("data-source",)


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (Nameless, "has no type"),
        (Idle, "takes part nowhere"),
        (Greedy, "asks for database"),
        (Loose, "its Params is no model"),
        (Deaf, "does not take params"),
        (Wanting, "the class has no Params"),
        (Single, "consumes must be a tuple of names"),
        (Waiting, "has an async method"),
        (Short, r"write def score\(self, request, pool\)"),
        (Demanding, r"write def filter\(self, request, pool\)"),
        ("text", "is not a class"),
    ],
)
def test_what_cannot_be_a_plugin_is_refused_with_the_reason(plugin, said):
    with pytest.raises(ConfigError, match=said):
        Catalogue.of([plugin])


def test_two_classes_of_one_type_are_refused():
    with pytest.raises(ConfigError, match="'a-scorer' is taken by Scorer"):
        Catalogue.of([Scorer]).plus([Twin])


def test_the_same_class_twice_is_one():
    assert list(Catalogue.of([Scorer]).plus([Scorer]).classes) == ["a-scorer"]


def test_adding_leaves_the_old_catalogue_as_it_was():
    old = Catalogue.of([Scorer])
    old.plus([Both])

    assert list(old.classes) == ["a-scorer"]


def test_an_old_name_finds_the_class():
    assert Catalogue.of([Scorer], aliases={"old": "a-scorer"}).find("old") is Scorer


def test_an_unknown_type_is_told_the_nearest():
    assert Catalogue.of([Scorer, Both]).unknown("a-scorrer") == (
        "unknown plugin type 'a-scorrer'; did you mean 'a-scorer'?"
    )


def test_a_refused_type_is_told_why_and_what_to_use():
    catalogue = Catalogue.of([Scorer], refusals=[Refusal("x", "nobody needs it", "use a-scorer")])

    assert catalogue.unknown("x") == (
        "the plugin type 'x' is not offered: nobody needs it; use a-scorer"
    )
