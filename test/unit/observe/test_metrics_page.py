"""docs/metrics.md and docs/migration.md say what the code emits."""

import re
from pathlib import Path

import pytest

from epp.observe.metrics import all_specs
from epp.observe.series import Spec

DOCS = Path(__file__).parents[3] / "docs"
UNITS = {
    "counter": r"_total",
    "histogram": r"_(seconds|bytes|tokens|ratio)",
    "gauge": r"_(seconds|bytes|tokens|size|utilization|requests|endpoints|running|inflight"
    r"|records|blind|info|saturation|objects|leader|ratio|warm)",
}


def row(spec: Spec) -> str:
    older = f"`{spec.old.name}`: {listed(spec.old.labels)}" if spec.old else "-"
    cells = (f"`{spec.name}`", spec.kind, listed(spec.labels), older, spec.help)
    return f"| {' | '.join(cells)} |"


def listed(labels) -> str:
    return " ".join(f"`{label}`" for label in labels) or "none"


def test_each_family_has_its_row_and_no_row_is_left_over():
    rows = re.findall(r"^\| `llm_d_epp_.*\|$", (DOCS / "metrics.md").read_text(), re.MULTILINE)

    assert rows == [row(spec) for spec in all_specs()]


def test_the_migration_page_pairs_each_older_name():
    page = (DOCS / "migration.md").read_text()
    pairs = re.findall(r"^\| `(inference_\w+)` \| `(llm_d_epp_\w+)` \|$", page, re.MULTILINE)

    assert pairs == [(spec.old.name, spec.name) for spec in all_specs() if spec.old]


@pytest.mark.parametrize("spec", all_specs(), ids=lambda spec: spec.name)
def test_a_name_ends_with_its_unit(spec):
    assert re.search(f"{UNITS[spec.kind]}$", spec.name)


def test_no_two_families_share_a_name():
    names = [spec.name for spec in all_specs()]
    older = [spec.old.name for spec in all_specs() if spec.old]

    assert len({*names, *older}) == len(names) + len(older)
