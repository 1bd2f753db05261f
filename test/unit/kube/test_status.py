"""What is said of an object, when it is said again, and what is left as it was."""

import json

import msgspec
import pytest
from support.kube_objects import objective, rewrite, rule

from epp.kube.api import OBJECTIVES, REWRITES
from epp.kube.objects import Objective, Rewrite
from epp.kube.status import is_said, patch_of, verdict_on

MIDNIGHT = 1767225600.0


def read(item, of=Objective):
    return msgspec.json.decode(json.dumps(item), type=of)


def said(verdict, wall=MIDNIGHT):
    return patch_of(verdict, wall)["status"]["conditions"]


def with_status(item, *conditions):
    return {**item, "status": {"conditions": list(conditions)}}


def test_an_objective_of_a_pool_that_is_there_is_ready():
    item = objective("o", 1, resourceVersion="5", generation=3)

    assert patch_of(verdict_on(OBJECTIVES[0], read(item), True), MIDNIGHT) == {
        "metadata": {"resourceVersion": "5"},
        "status": {
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Accepted",
                    "message": "InferencePool pool of inference.networking.k8s.io is served",
                    "observedGeneration": 3,
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ]
        },
    }


def test_a_rewrite_that_points_nowhere_says_so():
    item = read(rewrite("r", rule(to="x")), Rewrite)
    condition = said(verdict_on(REWRITES[0], item, False))[0]

    assert (condition["type"], condition["status"]) == ("Accepted", "False")
    assert condition["reason"] == "PoolNotFound"


def test_what_is_said_is_not_said_again():
    item = objective("o", 1, generation=3)
    first = said(verdict_on(OBJECTIVES[0], read(item), True))

    assert is_said(verdict_on(OBJECTIVES[0], read(with_status(item, *first)), True))


@pytest.mark.parametrize(
    "changes",
    [{"status": "Unknown"}, {"reason": "Pending"}, {"observedGeneration": 2}],
    ids=["status", "reason", "generation"],
)
def test_what_differs_is_said_anew(changes):
    item = objective("o", 1, generation=3)
    first = said(verdict_on(OBJECTIVES[0], read(item), True))[0]

    assert not is_said(
        verdict_on(OBJECTIVES[0], read(with_status(item, {**first, **changes})), True)
    )


def test_the_time_stays_while_the_status_does_and_other_conditions_stay_too():
    item = objective("o", 1, generation=4)
    other = {"type": "Theirs", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"}
    ours = {"type": "Ready", "status": "True", "lastTransitionTime": "2025-06-01T00:00:00Z"}
    conditions = said(verdict_on(OBJECTIVES[0], read(with_status(item, other, ours)), True))

    assert [(one["type"], one["lastTransitionTime"]) for one in conditions] == [
        ("Theirs", "2025-01-01T00:00:00Z"),
        ("Ready", "2025-06-01T00:00:00Z"),
    ]


def test_the_time_is_new_when_the_status_changes():
    ours = {"type": "Ready", "status": "Unknown", "lastTransitionTime": "2025-06-01T00:00:00Z"}
    item = with_status(objective("o", 1), ours)

    assert said(verdict_on(OBJECTIVES[0], read(item), True))[0]["lastTransitionTime"] == (
        "2026-01-01T00:00:00Z"
    )
