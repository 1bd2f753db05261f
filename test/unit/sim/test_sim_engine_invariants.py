"""What holds for every engine, whatever it is asked: blocks, requests, time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines import SIZE, family_keys, run_out, small_config

from vllm_sim.engine import Engine, PacedEngine, Pacing, Request, State

requests = st.builds(
    lambda prompt, output, family, priority, lora, remote, hold: {
        "prompt_tokens": prompt,
        "output_tokens": output,
        "keys": family_keys(family, prompt + output),
        "priority": priority,
        "lora": lora,
        "remote": remote,
        "hold": hold,
    },
    st.integers(1, 24),
    st.integers(0, 16),
    st.integers(1, 3),
    st.integers(0, 2),
    st.sampled_from([None, None, "a", "b"]),
    st.sampled_from([False, False, True]),
    st.sampled_from([False, False, False, True]),
)
moves = st.lists(
    st.one_of(
        st.tuples(st.just("add"), requests),
        st.tuples(st.just("abort"), st.integers(0, 20)),
        st.tuples(st.just("step"), st.integers(1, 6)),
        st.tuples(st.just("begin"), st.just(0)),
        st.tuples(st.just("sleep"), st.integers(0, 2)),
        st.tuples(st.just("wake"), st.just(0)),
    ),
    max_size=40,
)
configs = st.builds(
    small_config,
    policy=st.sampled_from(["fcfs", "priority"]),
    reserve_full_isl=st.booleans(),
    long_prefill_token_threshold=st.sampled_from([0, 5]),
    enable_prefix_caching=st.booleans(),
    kv_lease_s=st.just(0.05),
)


def assert_sound(engine):
    pool = engine.pool
    assert pool.fresh + pool.idle_blocks + len(pool.held) + pool.nameless == pool.capacity
    assert min(pool.fresh, pool.idle_blocks, pool.nameless, pool.free) >= 0
    assert pool.idle_blocks == sum(pool.idle.values())
    assert not set(pool.held) & set(pool.idle)
    assert 0 <= engine.kv_usage <= 1
    assert len(engine.running) <= engine.config.seqs
    assert engine.num_waiting >= 0
    assert engine.batch.context >= len(engine.batch)
    assert len(engine.loras.running) <= engine.config.max_loras
    alive = engine.num_running + engine.num_waiting
    assert engine.stats.added == engine.stats.finished + engine.stats.aborted + alive


def play(engine, script):
    """Runs the moves; every sequence that was ever added."""
    seqs, now = [], 0.0
    for move, value in script:
        before = engine.clock
        if move == "add":
            seqs.append(engine.add(Request(f"r{len(seqs)}", **value), now))
        elif move == "abort":
            engine.abort(f"r{value}", now)
        elif move == "begin":
            engine.start(now)
        elif move == "sleep":
            engine.sleep(value, now)
        elif move == "wake":
            engine.wake((), now)
        else:
            for _ in range(value):
                if engine.start(now) is not None:
                    now = max(now, engine.finish().end)
        assert engine.clock >= before
        assert_sound(engine)
    return seqs


@settings(max_examples=150)
@given(config=configs, script=moves)
def test_blocks_requests_and_time_are_conserved(config, script):
    engine = Engine(config)
    seqs = play(engine, script)
    engine.wake((), engine.clock)
    run_out(engine)
    assert_sound(engine)
    assert engine.pool.free == engine.pool.capacity
    assert all(seq.state in (State.FINISHED, State.ABORTED) for seq in seqs)
    finished = [seq for seq in seqs if seq.state is State.FINISHED]
    assert all(seq.generated == seq.request.output_tokens for seq in finished)
    assert all(
        seq.arrival <= seq.scheduled_at < seq.first_token_at <= seq.finished_at for seq in finished
    )


@settings(max_examples=60)
@given(config=configs, script=moves)
def test_constant_latencies_keep_the_same_invariants(config, script):
    engine = PacedEngine(config, Pacing(ttft=0.1, ttft_std=0.02, itl=0.01, load_factor=2))
    script = [(move, value) for move, value in script if move != "begin"]
    script = [
        (move, value)
        for move, value in script
        if move != "add" or value["prompt_tokens"] + value["output_tokens"] <= 12 * SIZE
    ]
    seqs = play(engine, script)
    engine.wake((), engine.clock)
    run_out(engine)
    assert engine.pool.free == engine.pool.capacity
    assert all(seq.state in (State.FINISHED, State.ABORTED) for seq in seqs)


@settings(max_examples=100)
@given(script=moves)
def test_the_removed_and_the_stored_tell_what_is_cached(script):
    engine = Engine(small_config())
    play(engine, script)
    engine.wake((), engine.clock)
    run_out(engine)
    known = Counter()
    for event in engine.drain_events():
        kind = type(event).__name__
        if kind == "Stored":
            known.update(event.keys)
        elif kind == "Removed":
            assert known[event.key]
            known[event.key] -= 1
        else:
            known.clear()
    pool = engine.pool
    blocks = Counter({key: len(entries) for key, entries in pool.spare.items()})
    blocks.update([*pool.held, *(key for key in pool.idle if key >= 0)])
    assert +known == blocks


@settings(max_examples=80)
@given(
    arrivals=st.lists(st.tuples(st.floats(0, 0.5), requests), min_size=1, max_size=12),
    config=configs,
)
def test_leaping_over_decodes_changes_no_result(arrivals, config):
    config = replace(config, num_gpu_blocks=60, kv_lease_s=100.0)
    leaping, stepping = Engine(config), Engine(config)
    stepping._leap = lambda until: None
    times = []
    for engine in (leaping, stepping):
        done = []
        for number, (at, fields) in enumerate(sorted(arrivals, key=lambda pair: pair[0])):
            done += engine.advance(at)
            engine.add(Request(f"r{number}", **fields), at)
        done += engine.advance(60.0)
        times.append([(seq.request.id, seq.first_token_at, seq.finished_at) for seq in done])
    assert [name for name, *_ in times[0]] == [name for name, *_ in times[1]]
    for fast, slow in zip(*times, strict=True):
        assert abs(fast[1] - slow[1]) < 1e-9
        assert abs(fast[2] - slow[2]) < 1e-9
    assert leaping.stats == stepping.stats


@settings(max_examples=80)
@given(
    arrivals=st.lists(st.tuples(st.floats(0, 0.5), requests), min_size=1, max_size=12),
    config=configs,
)
def test_following_next_event_finds_every_finish_at_its_time(arrivals, config):
    config = replace(config, num_gpu_blocks=60, kv_lease_s=100.0)
    straight, followed = Engine(config), Engine(config)
    for at, engine in ((0.0, straight), (0.0, followed)):
        for number, (_, fields) in enumerate(arrivals):
            engine.add(Request(f"r{number}", **fields), at)
    expected = [(seq.request.id, seq.finished_at) for seq in straight.advance(60.0)]
    found = []
    for _ in range(10_000):
        at = followed.next_event()
        if at is None or at > 60.0:
            break
        for seq in followed.advance(at):
            assert abs(seq.finished_at - at) < 1e-9
            found.append((seq.request.id, seq.finished_at))
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert all(abs(a[1] - b[1]) < 1e-9 for a, b in zip(found, expected, strict=True))


def test_an_endless_advance_stops_where_the_work_ends():
    engine = Engine(small_config())
    seq = engine.add(Request("a", 8, 8), 0.0)
    assert engine.advance(float("inf")) == [seq]
    assert engine.clock == seq.finished_at
