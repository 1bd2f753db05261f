"""Loads: stages of an open one, workers of a closed one, chats in which users wait for answers."""

import random
from itertools import pairwise

import pytest
from support.lab_workloads import prefixes, sessions, workload

from epp_lab.arrivals import clumped, staged
from epp_lab.crowd import Crowd
from epp_lab.job import Job, chained
from epp_lab.simulation import ASK_AGAIN_S, Member, Setting, Simulation
from epp_lab.trace import BadTrace
from vllm_sim.engine import EngineConfig

CONFIG = EngineConfig.named("h100-llama-8b", block_size=64)
STAGES = [{"rate": 5, "duration": 10}, {"rate": 0, "duration": 30}, {"rate": 10, "duration": 5}]
LEVELS = [
    {"concurrency_level": 4, "num_requests": 12},
    {"concurrency_level": 2, "num_requests": 6},
]


def job(number, tokens=500, **fields):
    return Job(arrival=0.0, prompt=((number, tokens),), output_tokens=20, **fields)


def outcomes(jobs, *levels, policy="round-robin"):
    setting = Setting(members=(Member(CONFIG),), levels=levels)
    return Simulation(policy, jobs, setting, 0).run().outcomes


def at_once(found):
    """The most requests that were under way at one time."""
    begun = [(each.arrival, 1) for each in found]
    ended = [(each.arrival + max(each.e2e, 0.0), -1) for each in found]
    most = now = 0
    for _, change in sorted(begun + ended):
        now += change
        most = max(most, now)
    return most


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_stages_say_how_many_requests_there_are_and_when_they_come(arrivals):
    staged = workload(prefixes(stages=STAGES, arrivals=arrivals))
    due = [job.arrival for job in staged.jobs(1.0, 0)]

    assert len(due) == 100
    assert staged.rate(1.0) == pytest.approx(100 / 45)
    assert not [at for at in due if 10 < at < 39.9]
    assert sum(at <= 10 for at in due) == pytest.approx(50, abs=0 if arrivals == "constant" else 20)


def test_twice_the_load_is_the_same_shape_in_half_the_time():
    staged = workload(prefixes(stages=STAGES, arrivals="constant"))
    one, two = ([job.arrival for job in staged.jobs(load, 0)] for load in (1.0, 2.0))

    assert two == pytest.approx([at / 2 for at in one])


def test_fewer_requests_are_the_same_shape_at_the_same_rate():
    few = workload(prefixes(stages=STAGES, arrivals="constant"), count=50)
    due = [job.arrival for job in few.jobs(1.0, 0)]

    assert due[24] == pytest.approx(4.8)
    assert due[25] == pytest.approx(20.0)


def test_what_the_last_stage_leaves_comes_at_its_rate():
    assert staged(25.0, [(1.0, 10.0), (5.0, 2.0), (0.0, 60.0)]) == pytest.approx(13.0)


def test_clumped_arrivals_have_the_spread_and_the_rate_they_name():
    due = clumped(20_000, 4.0, 3.0, random.Random(1))
    gaps = [later - earlier for earlier, later in pairwise(due)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5

    assert len(due) / due[-1] == pytest.approx(4.0)
    assert deviation / mean == pytest.approx(3.0, rel=0.1)


def test_workers_take_what_is_left_and_a_level_waits_for_the_one_before():
    crowd = Crowd([job(n) for n in range(5)], [(2, 3), (9, 2)])
    taken = [len(crowd.begin()), *(len(crowd.ended()) for _ in range(5))]

    assert taken == [2, 1, 0, 2, 0, 0]


def test_a_closed_load_never_has_more_under_way_than_workers():
    found = outcomes([job(n) for n in range(40)], (4, 40))

    assert len(found) == 40
    assert at_once(found) == 4


def test_the_next_request_of_a_worker_comes_when_its_answer_ended():
    found = outcomes([job(n) for n in range(10)], (1, 10))

    assert [later.arrival for later in found[1:]] == pytest.approx(
        [each.arrival + each.e2e for each in found[:-1]]
    )


def test_a_slow_pool_is_asked_less_by_a_closed_load():
    jobs = [job(n, tokens=8000) for n in range(30)]
    setting = Setting(members=(Member(CONFIG, speed=0.25),), levels=((3, 30),))
    slow = Simulation("round-robin", jobs, setting, 0).run()
    fast = outcomes(jobs, (3, 30))

    assert slow.outcomes[-1].arrival > 3 * fast[-1].arrival
    assert at_once(slow.outcomes) == 3


def test_a_worker_holds_a_session_until_its_last_answer():
    def session(number):
        return chained([job(number), job(number, tokens=700)])

    found = outcomes([session(n) for n in range(6)], (2, 6))

    assert len(found) == 12
    assert at_once(found) == 2


def test_a_worker_that_is_refused_rests_before_it_asks_again():
    found = outcomes([job(0, tokens=900_000), job(1)], (1, 2))

    assert [each.refused for each in found] == ["too-long", ""]
    assert found[1].arrival == pytest.approx(found[0].waited + ASK_AGAIN_S, abs=0.1)


def test_one_seed_one_result_of_a_closed_load():
    closed = workload(prefixes(arrivals="concurrent", stages=LEVELS))
    one, other = (
        Simulation("default", closed.jobs(1.0, 3), closed.setting(1.0), 3).run().outcomes
        for _ in range(2)
    )

    assert one == other
    assert len(one) == 18


def test_a_load_multiplies_workers():
    closed = workload(prefixes(arrivals="concurrent", stages=LEVELS))

    assert closed.setting(2.0).levels == ((8, 12), (4, 6))
    assert closed.pace(0.5) == "2, 1 at a time"


def test_a_closed_load_of_sessions_counts_sessions():
    closed = workload(sessions(arrivals="concurrent", stages=LEVELS))

    assert len(closed.jobs(1.0, 0)) == 18


def test_chats_wait_for_answers_and_for_their_time():
    slow = Member(EngineConfig.named("l40s-llama-8b", block_size=64))
    chats = workload(
        prefixes(num_groups=1, num_prompts_per_group=2, enable_multi_turn_chat=True),
        count=40,
        knee=8.0,
    )
    jobs = chats.jobs(1.0, 0)
    found = Simulation("round-robin", jobs, Setting(members=(slow,)), 0).run().outcomes

    assert len(found) == 40
    assert at_once(found) == 2


@pytest.mark.parametrize(
    ("requests", "says"),
    [
        (prefixes(arrivals="concurrent"), "stages of `concurrent` are missing"),
        (prefixes(stages=LEVELS), "go with arrivals: concurrent"),
        (prefixes(stages=[*STAGES, *LEVELS]), "go with arrivals: concurrent"),
        (prefixes(stages=STAGES, arrivals="bursts"), "arrivals bursts has none"),
        (prefixes(stages=[{"rate": 0, "duration": 1}]), "every rate is 0"),
        (prefixes(stages=[{"rate": 1}]), "duration: Field required"),
        (prefixes(cv=13), "cv is of arrivals: clumps alone"),
        (
            prefixes(arrivals="concurrent", stages=LEVELS, enable_multi_turn_chat=True),
            "take kind: conversation_replay",
        ),
    ],
    ids=["none", "open", "mixed", "bursts", "nothing", "half", "cv", "chats"],
)
def test_a_load_that_cannot_be_is_refused_with_what_to_do(requests, says):
    with pytest.raises(BadTrace, match=says):
        workload(requests, count=10, knee=1.0)
