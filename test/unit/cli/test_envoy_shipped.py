"""Every Envoy configuration of this repository is what the command prints."""

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from epp.cli import main

ROOT = Path(__file__).resolve().parents[3]
GATEWAYS = ROOT / "config" / "manifests" / "gateway"
PICKER = "vllm-llama3-8b-instruct-epp"
DUPLEX = ("--request=duplex", "--response=full", "--lb=original-dst", "--fail-closed")


def printed(*words: str) -> str:
    return CliRunner().invoke(main, ["envoy-config", *words]).output


@pytest.mark.parametrize(
    ("variant", "words"),
    [("envoy", ("--service", "vllm-llama3-8b-instruct:8000")), ("envoy-duplex", DUPLEX)],
)
def test_a_gateways_folder_holds_what_the_command_prints(variant, words):
    held = (GATEWAYS / variant / "envoy.yaml").read_text()

    assert printed("--ext-proc", f"{PICKER}:9002", *words) == held


def test_the_cluster_tests_gateway_holds_it_too():
    documents = yaml.safe_load_all((ROOT / "test" / "testdata" / "envoy.yaml").read_text())
    (held,) = (each["data"]["envoy.yaml"] for each in documents if each["kind"] == "ConfigMap")

    words = ("--ext-proc", f"{PICKER}.$E2E_NS:9002", "--trust-client-headers")
    assert printed(*words, *DUPLEX) == held


def test_new_pods_behind_a_service_are_heard_of_within_a_second():
    of_service = yaml.safe_load(printed("--service", "pool:8000"))
    pool, picker = of_service["static_resources"]["clusters"]

    assert pool["dns_refresh_rate"] == "1s"
    assert "dns_refresh_rate" not in picker
