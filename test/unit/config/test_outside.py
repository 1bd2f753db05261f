import re

import pytest

from epp.config.outside import file_plugins
from epp.errors import ConfigError

SCORER = """
class Mine:
    type = "my-scorer"
    def score(self, request, pool):
        return [1.0] * len(pool)
"""


def written(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return path


def test_a_class_with_type_and_score_is_all_it_takes(tmp_path):
    (plugin,) = file_plugins(written(tmp_path, SCORER))

    assert plugin.type == "my-scorer"


def test_classes_that_a_file_imports_are_not_its_own(tmp_path):
    text = "from epp.plugins.scorers.queue import QueueScorer\n" + SCORER

    assert [p.type for p in file_plugins(written(tmp_path, text))] == ["my-scorer"]


def test_a_file_that_changed_is_read_anew(tmp_path):
    path = written(tmp_path, SCORER)
    file_plugins(path)
    path.write_text(SCORER.replace("my-scorer", "your-scorer"))

    assert file_plugins(path)[0].type == "your-scorer"


def test_a_plugin_with_typed_parameters_and_late_annotations_loads(tmp_path):
    text = """
from __future__ import annotations
from dataclasses import dataclass
from epp.config.params import PluginParams

@dataclass
class Seen:
    count: int = 0

class Mine:
    type = "my-scorer"
    class Params(PluginParams):
        how_much: float = 0.5
    def __init__(self, params: Params) -> None:
        self.params = params
    def score(self, request, pool):
        return None
"""
    (plugin,) = file_plugins(written(tmp_path, text))

    assert plugin.Params.model_validate({"howMuch": 2.0}).how_much == 2.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("x = 1\nclass A\n", r"mine\.py:2: is not Python", id="syntax"),
        pytest.param("x = 1\n\nimport nowhere_at_all\n", r"mine\.py:3: cannot be", id="import"),
        pytest.param("def f():\n    1 / 0\nf()\n", r"mine\.py:2: .*ZeroDivision", id="raises"),
        pytest.param("x = 1\n", r"mine\.py: defines no plugin", id="empty"),
        pytest.param(
            "\nclass A:\n    type = 'a'\n", r"mine\.py:2: A: takes part nowhere", id="idle"
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        file_plugins(written(tmp_path, text))

    assert re.search(said, str(caught.value))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.py: cannot be read: No such file"):
        file_plugins(tmp_path / "none.py")
