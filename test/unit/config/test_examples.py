from pathlib import Path

import pytest
import yaml
from support.pools import endpoint, pool, request

from epp.assemble import assemble_text, bare_house
from epp.config.default import DEFAULT_CONFIG
from epp.config.effective import as_yaml, effective
from epp.plugins.catalog import CATALOGUE

FOLDER = Path(__file__).parents[3] / "config" / "examples"
EXAMPLES = sorted(FOLDER.glob("*.yaml"))


def assembled(text, origin):
    return assemble_text(text, str(origin), CATALOGUE, bare_house(seed=1))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_is_assembled_and_picks(path):
    policy = assembled(path.read_text(), path).policy
    view = pool(endpoints=[endpoint(i, labels={"app": "vllm"}) for i in range(4)])
    for producer in policy.pool_producers:
        view = view.having(producer.columns(request(b"x" * 400), view))

    assert policy.scheduler.schedule(request(b"x" * 400), view).endpoint in view.endpoints


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_what_explain_prints_means_the_same(path):
    first = assembled(path.read_text(), path).plan
    again = assembled(as_yaml(effective(first)), path).plan

    assert effective(again).value == effective(first).value
    assert [(p.name, p.type, p.params) for p in again.plugins] == [
        (p.name, p.type, p.params) for p in first.plugins
    ]


def test_the_default_example_is_the_built_in_default():
    assert yaml.safe_load((FOLDER / "default.yaml").read_text()) == yaml.safe_load(DEFAULT_CONFIG)


def test_only_the_file_of_old_names_has_warnings():
    warned = {p.stem for p in EXAMPLES if assembled(p.read_text(), p).policy.warnings}

    assert warned == {"older-version"}
