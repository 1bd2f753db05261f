"""Which build a picker says it is."""

from importlib import metadata
from pathlib import Path

import pytest

from epp.app.build import Build, build_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("environment", "build"),
    [
        ({"EPP_COMMIT": "abc", "EPP_BUILD_REF": "v1.2"}, Build("abc", "v1.2")),
        ({"EPP_COMMIT": " abc\n"}, Build("abc", metadata.version("epp"))),
        ({"EPP_COMMIT": "", "EPP_BUILD_REF": ""}, Build("unknown", metadata.version("epp"))),
        ({"EPP_BUILD_REF": "x" * 500}, Build("unknown", "x" * 128)),
    ],
    ids=["both", "commit", "empty", "long"],
)
def test_the_image_says_it_else_the_package(environment, build):
    assert build_of(environment) == build


def test_the_image_is_told_by_build_arguments():
    text = (ROOT / "Dockerfile").read_text()

    assert "ENV EPP_COMMIT=${COMMIT_SHA} EPP_BUILD_REF=${BUILD_REF}" in text
