"""The families of the followed caches."""

from dataclasses import asdict

from epp.kvevents.stats import Counts
from epp.observe.kv_metrics import COUNTS, KvMetrics, KvState, kv_families_of


def samples(state):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for metric in KvMetrics(lambda: state).collect(old_names=True)
        for sample in metric.samples
    }


def test_counts_and_gauges_are_shown():
    state = KvState(
        counts={"stored": 7}, replays={"done": 2}, tokens_by={"render": 3}, live=1, blocks=9
    )
    shown = samples(state)

    assert shown["llm_d_epp_kv_events_blocks_stored_total",] == 7
    assert shown["llm_d_epp_kv_events_replays_total", "done"] == 2
    assert shown["llm_d_epp_prompt_tokens_source_total", "render"] == 3
    assert shown["llm_d_epp_kv_events_live_endpoints",] == 1
    assert shown["llm_d_epp_kv_events_index_size",] == 9


def test_nothing_is_shown_where_nothing_is_followed():
    assert samples(None) == {}


def test_every_count_shown_is_counted():
    assert set(COUNTS) <= set(asdict(Counts()))


def test_no_two_families_share_a_name():
    names = [family.spec.name for family in kv_families_of(KvState())]

    assert len(set(names)) == len(names)
