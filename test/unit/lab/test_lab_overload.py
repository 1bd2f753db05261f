"""Who asks, how what they got is measured, and how it is shown."""

import random
from collections import Counter

import pytest
from click.testing import CliRunner

from epp_lab.cli import command
from epp_lab.job import Job
from epp_lab.measure import fairness, jain, jain_index, max_min, measure
from epp_lab.outcome import Outcome
from epp_lab.population import Population
from epp_lab.workload import load_workload, overload_names, workload_names

CLASSES = [
    {"share": 3, "priority": 10, "workload": "chat", "criticality": 5},
    {"share": 1, "priority": -1},
]


def outcome(tenant="a", *, good=True, priority=0, criticality=3, refused=""):
    served = {"ttft": 0.1 if good else 9.0, "e2e": 10.0} if not refused else {}
    return Outcome(
        arrival=0.0,
        tenant=tenant,
        priority=priority,
        criticality=criticality,
        prompt_tokens=1,
        output_tokens=1,
        refused=refused,
        **served,
    )


def measured(*those):
    return measure(those, ttft_s=1.0, tpot_s=100.0, replicas=1)


def test_a_population_keeps_what_is_asked_and_says_who_asks():
    jobs = [Job(arrival=float(n), prompt=((n, 10),), output_tokens=5) for n in range(2000)]
    jobs[0] = Job(arrival=0.0, prompt=((0, 10),), output_tokens=5, then=jobs[1])
    who = Population(tenants=10, greedy_share=0.4, classes=CLASSES)
    found = who.given(jobs, random.Random(1))
    tenants = Counter(job.tenant for job in found)
    classes = Counter((job.priority, job.workload, job.criticality) for job in found)

    assert [job.prompt for job in found] == [job.prompt for job in jobs]
    assert len(tenants) == 10
    assert 700 < tenants["tenant-0"] < 900
    assert max(count for name, count in tenants.items() if name != "tenant-0") < 200
    assert set(classes) == {(10, "chat", 5), (-1, "", 3)}
    assert 1400 < classes[10, "chat", 5] < 1600
    assert found[0].then.tenant == found[0].tenant


@pytest.mark.parametrize(
    ("asked", "amount", "fair"),
    [
        ({"a": 10, "b": 10}, 10, {"a": 5.0, "b": 5.0}),
        ({"greedy": 100, "a": 2, "b": 4}, 12, {"greedy": 6.0, "a": 2.0, "b": 4.0}),
        ({"a": 1, "b": 2}, 30, {"a": 1.0, "b": 2.0}),
        ({"a": 5}, 0, {"a": 0.0}),
    ],
    ids=["alike", "greedy", "enough", "nothing"],
)
def test_a_fair_share_is_max_min(asked, amount, fair):
    assert max_min(asked, float(amount)) == fair


def test_serving_in_proportion_is_even_but_not_fair():
    those = [outcome("greedy", good=n < 40) for n in range(80)]
    those += [outcome(f"t{n % 4}", good=n < 10) for n in range(20)]
    good = {id(each) for each in those if each.ttft < 1}

    assert jain(those, good) > 0.95
    assert fairness(those, good) < 0.8


def test_jains_index_of_one_who_has_all():
    assert jain_index([1.0, 0.0, 0.0, 0.0]) == 0.25
    assert jain_index([]) == 1.0


def test_refusals_count_by_reason_and_classes_by_criticality():
    found = measured(
        outcome(priority=1, criticality=5),
        outcome(priority=1, criticality=1, refused="expired"),
        outcome(priority=-1, refused="expired"),
        outcome(priority=-1, refused="rejected-saturated"),
    )

    assert found.refused == {"expired": 2, "rejected-saturated": 1}
    assert list(found.classes) == ["1", "-1"]
    assert list(found.criticalities) == ["1/5", "1/1", "-1/3"]
    assert found.criticalities["1/1"].served == 0


def test_where_nobody_says_how_critical_there_are_no_such_classes():
    assert measured(outcome(priority=1), outcome()).criticalities == {}


def test_overloads_are_no_part_of_the_table_of_placing():
    assert overload_names() == ["overload-1.5", "overload-3", "overload-tenants"]
    assert not set(overload_names()) & set(workload_names())
    assert [load_workload(name).loads for name in overload_names()] == [(1.5,), (3.0,), (2.0,)]


def test_one_command_shows_it():
    asked = "overload -t overload-3 -p default -p flow-control --seeds 1 --scale 0.01"
    result = CliRunner().invoke(command, asked.split())

    assert result.exit_code == 0, result.output
    assert "#### overload-3 at 3 of the knee" in result.output
    assert "| flow-control | " in result.output
    assert "priority -1: served" in result.output
