"""Workloads beside the table: what they name is what comes out of them."""

from collections import Counter
from itertools import pairwise
from statistics import fmean, pstdev

import pytest
from click.testing import CliRunner

from epp_lab.cli import command
from epp_lab.run import run_workload
from epp_lab.workload import load_workload, more_names, names_like, workload_names

TABLE = [
    "azure",
    "bursts",
    "conversation",
    "joins",
    "multi-lora",
    "one-fast",
    "one-slow",
    "prefix-37",
    "prefix-73",
    "sessions",
    "stale",
]


def jobs(name, load=1.0, **changes):
    return load_workload(name).model_copy(update=changes).jobs(load, 0)


def lengths(found):
    prompts, answers = zip(*((job.prompt_tokens, job.output_tokens) for job in found), strict=True)
    return fmean(prompts), fmean(answers)


def test_the_table_has_its_eleven_workloads_and_none_of_these():
    assert workload_names() == TABLE


def test_they_are_listed():
    done = CliRunner(env={"COLUMNS": "200"}).invoke(command, ["list"])

    assert all(name in done.output for name in (*TABLE, *more_names()))


def test_a_pattern_names_several_and_what_matches_none_is_itself():
    assert names_like("more-*") == more_names()
    assert names_like("one-*") == ["one-fast", "one-slow"]
    assert names_like("mine.yaml") == ["mine.yaml"]


def test_a_table_takes_a_pattern():
    args = ["table", "-p", "random", "-t", "one-*", "--seeds", "1", "--loads", "0.7"]
    done = CliRunner().invoke(command, [*args, "--scale", "0.01"])

    assert done.exit_code == 0, done.output
    assert all(f"| {name} |" in done.output for name in ("one-fast", "one-slow"))


@pytest.mark.parametrize("name", more_names())
def test_each_can_be_run_by_its_name(name):
    workload = load_workload(name).model_copy(update={"count": 12})

    assert run_workload(workload, "default", 0.9, 0).measure.served > 0


def test_the_hump_rises_sevenfold_in_eight_minutes():
    found = jobs("more-hump")
    bins = Counter(int(job.arrival // 30) for job in found)

    assert found[-1].arrival == pytest.approx(480, rel=0.1)
    assert bins[7] / bins[0] == pytest.approx(11.3 / 1.6, rel=0.25)
    assert lengths(found) == pytest.approx((294, 73), rel=0.12)


def test_priorities_are_mixed_as_named_and_all_requests_are_of_one_length():
    found = jobs("more-priorities")
    classes = Counter(job.priority for job in found)

    assert {(job.prompt_tokens, job.output_tokens) for job in found} == {(1001, 512)}
    assert [classes[p] / len(found) for p in (100, 0, -10)] == pytest.approx(
        [0.2, 0.6, 0.2], abs=0.03
    )


def test_tool_agents_share_long_prompts_and_chats_one_block():
    found = jobs("more-toolagent", count=6000)
    openings = {job.tenant.split("/")[0]: job.prompt[0][1] for job in found}

    assert openings == {"agent-a": 6144, "agent-b": 2560, "chats": 512}
    assert lengths(found) == pytest.approx((8596, 182), rel=0.06)


def test_code_comes_in_clumps():
    due = [job.arrival for job in jobs("more-azure-code", count=9000)]
    gaps = [later - earlier for earlier, later in pairwise(due)]

    assert pstdev(gaps) / fmean(gaps) == pytest.approx(13.2, rel=0.3)
    assert lengths(jobs("more-azure-code")) == pytest.approx((2048, 28), rel=0.12)


def test_people_at_a_time_rise_and_each_holds_a_chat():
    workload = load_workload("more-interactive")

    assert workload.pace(1.0) == "10, 20, 30, 40, 50 at a time"
    assert len(workload.jobs(1.0, 0)) == workload.count == 450
