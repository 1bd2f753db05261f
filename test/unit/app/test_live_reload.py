"""A configuration that cannot be taken changes nothing, whatever is wrong with it."""

import time

import pytest
from support.stores import Log, store_of

from epp.app.live import LiveConfig
from epp.config.options import RunOptions
from epp.observe.picker_metrics import PickerMetrics

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\n"
QUEUE = HEAD + "plugins: [{type: queue-scorer}]"
PLUGIN = """
import numpy as np
import pydantic

class Fussy:
    type = "fussy"

    class Params(pydantic.BaseModel):
        word: str = ""

        @pydantic.field_validator("word")
        @classmethod
        def known(cls, value):
            return {}[value]

    def __init__(self, params):
        raise ValueError(params.word)

    def score(self, request, pool):
        return np.zeros(len(pool))
"""
FUSSY = HEAD + "plugins: [{type: fussy, parameters: {word: the-secret}}]"


class Bench:
    def __init__(self, folder):
        plugin = folder / "fussy.py"
        plugin.write_text(PLUGIN)
        self.log, self.metrics, self.store = Log(), PickerMetrics(), store_of()
        options = RunOptions(config_text=QUEUE, plugin_files=(str(plugin),))
        self.live = LiveConfig(
            options, self.store, self.metrics, self.log, clock=time.monotonic, secret=bytes(32)
        )

    def counted(self, outcome):
        return self.metrics.reloads.bind("config", outcome).value


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.mark.parametrize("text", [FUSSY, HEAD + "plugins: 3", "["], ids=["raises", "wrong", "no"])
def test_what_cannot_be_taken_leaves_the_old_one_in_force(bench, text):
    before = bench.live.now

    assert bench.live.take(text.encode()) is None
    assert bench.live.now is before
    assert (bench.counted("refused"), bench.live.reloads) == (1, 0)


def test_a_plugin_that_raises_is_named_by_its_place_and_not_by_what_it_says(bench):
    bench.live.take(FUSSY.encode())
    _, _, said = bench.log.lines[-1]

    assert said["error"] == "KeyError"
    assert "fussy.py" in said["trace"]
    assert "the-secret" not in str(said)


def test_what_comes_after_a_broken_one_is_taken(bench):
    bench.live.take(FUSSY.encode())

    assert bench.live.take(QUEUE.encode()) is bench.live.now.setup
    assert bench.counted("applied") == 1


def test_hits_are_counted_for_each_producer_of_prefix_matches(bench):
    bench.live.take((HEAD + "plugins: [{type: approx-prefix-cache-producer}]").encode())

    kinds = [type(one).__name__ for one in bench.live.now.setup.policy.pick_observers]
    assert kinds.count("PrefixHits") == 1


@pytest.mark.parametrize(
    ("interval", "waits"), [("1s", ["metrics-data-source"]), ("", [])], ids=["another", "same"]
)
def test_what_is_read_at_start_only_is_told_when_a_reload_changes_it(bench, interval, waits):
    given = f", parameters: {{interval: {interval}}}" if interval else ""
    source = HEAD + "plugins: [{type: queue-scorer}, {type: metrics-data-source%s}]"
    bench.live.take((source % "").encode())
    bench.log.lines.clear()
    bench.live.take((source % given).encode())

    told = [said["plugins"] for _, _, said in bench.log.lines if "plugins" in said]
    assert told == ([waits] if waits else [])


def test_a_broken_one_leaves_no_state_behind(bench):
    prefix = HEAD + "plugins: [{type: approx-prefix-cache-producer}, {type: fussy}]"

    assert bench.live.take(prefix.encode()) is None
    assert bench.store.clear_unused_state([]) == 0
