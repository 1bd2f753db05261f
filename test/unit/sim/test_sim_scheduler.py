"""What one step of the engine does: cache, order, preemption, adapters, transfers, sleep."""

from __future__ import annotations

import pytest
from support.engines import SIZE, family_keys, request, run_out, small_engine

from vllm_sim.engine import Removed, State, Stored


@pytest.mark.parametrize(
    ("prompt", "cached"),
    [(8, 4), (9, 8), (11, 8), (12, 8), (13, 12)],
    ids=lambda value: str(value),
)
def test_the_last_token_is_always_computed(prompt, cached):
    engine = small_engine()
    for name in "ab":
        seq = engine.add(request(name, prompt, 1, family=1), engine.clock)
        run_out(engine)
    assert seq.cached_tokens == cached == (prompt - 1) // SIZE * SIZE


def test_a_prompt_is_prefilled_in_chunks_of_the_budget():
    engine = small_engine()
    engine.add(request("a", 40, 1), 0.0)
    assert [engine.step(engine.clock).tokens for _ in range(3)] == [16, 16, 8]


def test_a_long_prefill_leaves_room_beside_it():
    engine = small_engine(long_prefill_token_threshold=6)
    long = engine.add(request("long", 20, 1), 0.0)
    short = engine.add(request("short", 4, 1), 0.0)
    engine.step(0.0)
    assert (long.computed, short.state) == (6, State.FINISHED)


def test_blocks_are_found_in_the_very_step_that_computes_them():
    engine = small_engine()
    engine.add(request("a", 9, 1, family=1), 0.0)
    second = engine.add(request("b", 9, 1, family=1), 0.0)
    engine.step(0.0)
    assert second.cached_tokens == 8


def test_tails_are_evicted_before_heads():
    engine = small_engine()
    engine.add(request("a", 17, 1, family=1), 0.0)
    run_out(engine)
    engine.drain_events()
    engine.add(request("b", 40, 1), engine.clock)
    run_out(engine)
    gone = [event.key for event in engine.drain_events() if isinstance(event, Removed)]
    assert gone == [1003, 1002]


def test_the_oldest_request_is_evicted_before_the_younger():
    engine = small_engine()
    for family in (1, 2):
        engine.add(request(f"r{family}", 16, 1, family=family), engine.clock)
        run_out(engine)
    engine.add(request("big", 32, 1), engine.clock)
    run_out(engine)
    assert engine.pool.match(family_keys(1, 16), 9) == 0
    assert engine.pool.match(family_keys(2, 16), 9) == 4


def test_a_freed_block_stays_cached_until_it_is_needed():
    engine = small_engine()
    engine.add(request("a", 17, 1, family=1), 0.0)
    run_out(engine)
    assert engine.kv_usage == 0
    assert engine.pool.match(family_keys(1, 16), 9) == 4
    assert not [event for event in engine.drain_events() if isinstance(event, Removed)]


def test_stored_runs_name_the_block_before_them():
    engine = small_engine()
    engine.add(request("a", 20, 6, family=1), 0.0)
    run_out(engine)
    stored = [event for event in engine.drain_events() if isinstance(event, Stored)]
    assert [(event.parent, event.keys) for event in stored] == [
        (None, (1000, 1001, 1002, 1003)),
        (1003, (1004,)),
        (1004, (1005,)),
    ]


def test_fcfs_preempts_the_last_admitted_and_resumes_it_first():
    engine = small_engine()
    first = engine.add(request("a", 16, 20), 0.0)
    second = engine.add(request("b", 16, 20), 0.0)
    third = engine.add(request("c", 16, 2), 0.0)
    run_out(engine)
    assert (first.preemptions, second.preemptions > 0) == (0, True)
    assert first.finished_at < second.finished_at
    assert engine.stats.preemptions == second.preemptions + third.preemptions
    assert second.generated == 20


def test_priority_preempts_the_least_urgent():
    engine = small_engine(policy="priority", reserve_full_isl=False)
    late = engine.add(request("low", 16, 20, priority=5), 0.0)
    urgent = engine.add(request("high", 16, 20, priority=-1), 0.1)
    run_out(engine)
    assert (urgent.preemptions, late.preemptions > 0) == (0, True)


def test_priority_orders_the_queue():
    engine = small_engine(policy="priority", max_num_seqs=1)
    names = [("a", 2), ("b", 1), ("c", -3), ("d", 1)]
    for number, (name, priority) in enumerate(names):
        engine.add(request(name, 4, 1, priority=priority), number / 100)
    assert [seq.request.id for seq in run_out(engine)] == ["c", "b", "d", "a"]


def test_a_whole_prompt_must_fit_when_it_is_reserved():
    admitted = []
    for reserve in (True, False):
        engine = small_engine(reserve_full_isl=reserve)
        engine.add(request("a", 16, 12), 0.0)
        engine.step(0.0)
        engine.add(request("b", 36, 1), 0.0)
        engine.step(engine.clock)
        admitted.append(engine.num_running)
    assert admitted == [1, 2]


def test_a_request_without_a_slot_lets_others_pass():
    engine = small_engine(max_loras=1)
    for name, lora in [("a", "x"), ("b", "y"), ("c", None), ("d", "x")]:
        engine.add(request(name, 4, 3, lora=lora), 0.0)
    engine.step(0.0)
    assert {seq.request.id for seq in engine.running} == {"a", "c", "d"}
    assert engine.waiting.loras() == ["y"]
    assert len(run_out(engine)) == 4


def test_an_adapter_is_loaded_once_while_it_keeps_its_slot():
    engine = small_engine(max_loras=1, max_cpu_loras=2)
    costs = []
    for name, lora in [("a", "x"), ("b", "x"), ("c", "y"), ("d", "x")]:
        engine.add(request(name, 4, 1, lora=lora), engine.clock)
        step = engine.step(engine.clock)
        costs.append(round(step.end - step.start, 1))
    assert costs == [0.5, 0.0, 0.5, 0.0]
    assert engine.stats.lora_loads == 3


def test_counters_of_the_cache_count_a_request_once():
    engine = small_engine()
    for name in "abc":
        engine.add(request(name, 13, 17, family=1), 0.0)
    done = run_out(engine)
    assert engine.stats.preemptions > 0
    assert engine.stats.prefix_queries == sum(seq.request.prompt_tokens for seq in done)
    assert engine.stats.prefix_hits == sum(seq.cached_tokens for seq in done)


def test_held_blocks_are_freed_when_they_are_read():
    engine = small_engine()
    engine.add(request("a", 16, 1, hold=True), 0.0)
    run_out_until_finished(engine)
    assert engine.pool.free == 8
    assert engine.release_pin("a")
    assert engine.pool.free == 12


def test_held_blocks_are_freed_when_their_lease_ends():
    engine = small_engine(kv_lease_s=30.0)
    engine.add(request("a", 16, 1, hold=True), 0.0)
    run_out(engine)
    assert engine.pool.free == 12
    assert (engine.stats.leases_expired, engine.clock > 30) == (1, True)


def test_a_remote_prefill_waits_for_its_blocks_and_computes_one_token():
    engine = small_engine()
    seq = engine.add(request("a", 16, 2, remote=True), 0.0)
    assert engine.start(0.0) is None
    assert (engine.num_deferred, engine.num_waiting, engine.num_running) == (1, 1, 0)
    assert engine.pool.free == 8
    arrival = engine.idle_until()
    assert arrival == pytest.approx(engine.config.profile.transfer_s(16))
    assert engine.step(arrival).tokens == 1
    assert run_out(engine) == [seq]


def test_a_fetched_prompt_waits_for_a_slot_of_its_adapter_and_others_pass():
    engine = small_engine(max_loras=1)
    engine.add(request("runs", 4, 9, lora="x"), 0.0)
    engine.step(0.0)
    other = engine.add(request("other", 4, 2, lora="y", remote=True), engine.clock)
    plain = engine.add(request("plain", 4, 2, remote=True), engine.clock)
    for _ in range(4):
        engine.step(engine.clock)
        assert engine.loras.running == {"x": 1}
    assert (other.state, plain.state) == (State.WAITING, State.FINISHED)
    assert other in run_out(engine)


def test_blocks_at_hand_are_not_fetched():
    engine = small_engine()
    engine.add(request("a", 16, 1, family=1), 0.0)
    run_out(engine)
    engine.add(request("b", 16, 1, family=1, remote=True), engine.clock)
    run_out(engine)
    assert engine.stats.external_hits == 4


@pytest.mark.parametrize(("level", "wake_s"), [(0, 0.0), (1, 1.0), (2, 2.0)])
def test_a_sleeping_engine_keeps_requests_until_it_is_awake(level, wake_s):
    engine = small_engine()
    engine.sleep(level, 0.0)
    engine.add(request("a", 4, 1), 0.0)
    assert engine.start(0.0) is None
    assert engine.idle_until() is None
    engine.wake((), 5.0)
    engine.start(5.0)
    assert run_out(engine)[0].scheduled_at == 5.0 + wake_s


@pytest.mark.parametrize(("level", "kept"), [(0, 4), (1, 0), (2, 0)])
def test_from_level_one_the_cache_is_lost(level, kept):
    engine = small_engine()
    engine.add(request("a", 17, 1, family=1), 0.0)
    run_out(engine)
    engine.sleep(level, engine.clock)
    assert engine.pool.match(family_keys(1, 16), 9) == kept


def test_it_is_awake_only_when_every_tag_is():
    engine = small_engine()
    engine.sleep(1, 0.0)
    engine.wake(["weights"], 0.0)
    assert engine.power.sleeping
    engine.wake(["kv_cache"], 0.0)
    assert not engine.power.sleeping


def test_a_cold_engine_starts_when_it_is_ready():
    from support.engines import small_config

    from vllm_sim.engine import Engine

    engine = Engine(small_config(), ready_at=45.0)
    seq = engine.add(request("a", 4, 1), 1.0)
    engine.advance(100.0)
    assert seq.scheduled_at == 45.0


def test_a_draining_engine_finishes_but_takes_nothing():
    engine = small_engine()
    engine.add(request("a", 4, 3), 0.0)
    engine.drain()
    with pytest.raises(ValueError, match="drains"):
        engine.add(request("b", 4, 1), 0.0)
    assert len(run_out(engine)) == 1


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (request("a", 4, 1), "in use"),
        (request("b", 49, 1), "exceed"),
        (request("c", 4, 46), "exceed"),
    ],
    ids=["same id", "prompt too long", "answer too long"],
)
def test_what_can_never_run_is_refused(bad, match):
    engine = small_engine()
    engine.add(request("a", 4, 1), 0.0)
    with pytest.raises(ValueError, match=match):
        engine.add(bad, 0.0)


def test_a_slowed_engine_takes_that_much_longer():
    ends = []
    for factor in (1.0, 3.0):
        engine = small_engine()
        engine.slowdown = factor
        engine.add(request("a", 16, 8), 0.0)
        run_out(engine)
        ends.append(engine.clock)
    assert ends[1] == pytest.approx(3 * ends[0])


def run_out_until_finished(engine):
    while not engine.idle:
        engine.step(engine.clock)
