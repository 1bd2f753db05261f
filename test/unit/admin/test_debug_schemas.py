"""The published schemas of the debug pages are those of the code."""

import json
from pathlib import Path

import pytest

from epp.admin.pages import PAGES, schema

SCHEMAS = Path(__file__).parents[3] / "docs" / "schemas"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_keeps_to_its_published_schema(page):
    assert json.loads((SCHEMAS / f"{page}.json").read_text()) == json.loads(
        json.dumps(schema(page))
    )


def test_no_schema_is_left_over():
    assert {file.stem for file in SCHEMAS.glob("*.json")} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_each_field_has_a_type(page):
    untyped = [
        f"{name}.{field}"
        for name, part in schema(page)["$defs"].items()
        for field, told in part.get("properties", {}).items()
        if not {"type", "anyOf", "$ref"} & set(told)
    ]
    assert untyped == []
