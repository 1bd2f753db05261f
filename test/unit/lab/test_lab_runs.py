"""Runs: one seed one result, nothing lost, and what differs from a plain pool shows."""

from collections import Counter

import pytest

from epp.domain.response import ResponseMode
from epp_lab.baselines import BASELINES
from epp_lab.job import Job
from epp_lab.measure import measure
from epp_lab.run import run_workload
from epp_lab.simulation import Member, Setting, Simulation
from epp_lab.workload import load_workload, parse_workload, workload_names
from vllm_sim.engine import EngineConfig

CONFIG = EngineConfig.named("h100-llama-8b", block_size=64)


def setting(*members, replicas=3, **given):
    return Setting(members=members or (Member(CONFIG),) * replicas, **given)


def job(at, tokens=500, content=None, answer=20, **fields):
    content = content if content is not None else 1000 + int(at * 1e6)
    return Job(arrival=at, prompt=((content, tokens),), output_tokens=answer, **fields)


def steady(count, gap=0.05, **fields):
    return [job(number * gap, **fields) for number in range(count)]


def outcomes(policy, jobs, seed=0, **given):
    return Simulation(policy, jobs, setting(**given), seed).run().outcomes


@pytest.mark.parametrize("policy", BASELINES)
def test_every_policy_serves_every_request(policy):
    found = outcomes(policy, steady(60))

    assert [each.refused for each in found] == [""] * 60
    assert len({each.replica for each in found}) == 3


@pytest.mark.parametrize("policy", ["default", "random", "power-of-two", "precise"])
def test_one_seed_one_result(policy):
    workload = load_workload("bursts").model_copy(update={"count": 120})

    assert (
        run_workload(workload, policy, 1.0, 7).measure
        == run_workload(workload, policy, 1.0, 7).measure
    )


def test_another_seed_gives_other_requests_and_a_policy_does_not():
    workload = load_workload("bursts").model_copy(update={"count": 50})

    assert workload.jobs(0.9, 1) != workload.jobs(0.9, 2)
    assert workload.jobs(0.9, 1) == workload.jobs(0.9, 1)


def test_round_robin_goes_round():
    found = outcomes("round-robin", steady(9))
    first = [each.replica for each in found[:3]]

    assert [each.replica for each in found] == first * 3


def test_the_first_token_takes_the_way_the_frontend_and_the_prefill():
    profile = CONFIG.profile
    (found,) = outcomes("random", [job(1.0, tokens=2000, answer=1)], network_s=0.25)
    expected = 0.5 + profile.frontend_delay_s(2000) + profile.step_ms(chunks=[(2000, 0)]) / 1000

    assert found.ttft == pytest.approx(expected)
    assert found.e2e == found.ttft


def test_a_repeated_prompt_is_cached_but_for_its_last_block():
    found = outcomes("default", [job(0.0, 640, content=5), job(2.0, 640, content=5)])

    assert [each.cached_tokens for each in found] == [0, 9 * 64]
    assert found[0].replica == found[1].replica


def test_a_session_asks_its_next_turn_after_the_answer():
    then = Job(arrival=3.0, prompt=((9, 600), (8, 64)), output_tokens=5)
    first, second = outcomes("default", [job(1.0, 600, content=9, then=then)])

    assert second.arrival == pytest.approx(1.0 + first.e2e + 3.0)
    assert second.cached_tokens == 9 * 64


def test_a_prompt_that_never_fits_is_refused_and_counted():
    found = outcomes("default", [job(0.0, tokens=900_000), job(0.1)])

    assert [each.refused for each in found] == ["too-long", ""]
    assert measure(found, ttft_s=1, tpot_s=1, replicas=3).failed == 1


def test_a_replica_that_joins_gets_nothing_before_and_something_after():
    members = (Member(CONFIG), Member(CONFIG), Member(CONFIG, joins_at=3.0))
    found = Simulation("least-requests", steady(200), setting(*members), 0).run().outcomes
    late = [each.arrival for each in found if each.replica == "replica-2"]

    assert late
    assert min(late) >= 3.0


def test_a_replica_twice_as_fast_gets_more_of_the_work():
    members = (Member(CONFIG, speed=2.0), Member(CONFIG))
    jobs = steady(300, gap=0.03, tokens=1500)
    found = Simulation("default", jobs, setting(*members), 0).run().outcomes
    counts = Counter(each.replica for each in found)

    assert counts["replica-0"] > 1.2 * counts["replica-1"]


def test_where_first_tokens_are_not_seen_all_are_still_served():
    found = outcomes("default", steady(60), response=ResponseMode.WATCH)

    assert all(each.served for each in found)


def test_sheddable_requests_are_refused_while_the_pool_is_saturated():
    jobs = [job(0.0, tokens=150_000, content=n) for n in range(40)]
    jobs += [job(5.0, priority=-1)]
    found = outcomes("default", jobs, replicas=2)

    assert found[-1].refused == "rejected-saturated"


def test_measures_of_a_handful():
    found = outcomes("round-robin", steady(6, answer=11), replicas=3)
    got = measure(found, ttft_s=10, tpot_s=10, replicas=3)

    assert (got.requests, got.served, got.shed, got.goodput) == (6, 6, 0, 1.0)
    assert got.imbalance == 1.0
    assert got.jain == 1.0
    assert got.ttft.p50 <= got.ttft.p90 <= got.ttft.p99 < got.e2e.p99


@pytest.mark.parametrize("name", workload_names())
def test_every_workload_file_can_be_run(name):
    workload = load_workload(name).model_copy(update={"count": 12})

    assert run_workload(workload, "default", 0.9, 0).measure.served > 0


def test_a_workload_with_a_fault_says_where():
    with pytest.raises(ValueError, match=r"here: slo\.ttft_s"):
        parse_workload({**load_workload("azure").model_dump(), "slo": {"tpot_s": 1}}, "here")
