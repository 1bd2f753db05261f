"""What a header says of a workload, or nothing where it cannot be read."""

import pytest

from epp.domain.workload import NO_WORKLOAD, Workload, workload_of


@pytest.mark.parametrize(
    ("header", "workload"),
    [
        ('{"workload_id": "batch", "criticality": 5}', Workload("batch", 5)),
        ('{"workload_id": "batch", "criticality": 99, "more": [1]}', Workload("batch", 5)),
        ('{"workload_id": 7, "criticality": "high"}', NO_WORKLOAD),
        ("[" * 1_024, NO_WORKLOAD),
        ('{"workload_id":' + "[" * 1_000, NO_WORKLOAD),
        ("[]", NO_WORKLOAD),
        ("no json", NO_WORKLOAD),
    ],
    ids=["both", "out of range", "wrong types", "deep", "deep inside", "no object", "no JSON"],
)
def test_a_header_says_what_can_be_read_of_it(header, workload):
    assert workload_of({"x-workload-context": header}) == workload
