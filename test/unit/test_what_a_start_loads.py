"""A picker pays at its start for what it was asked to do, and for nothing else."""

import subprocess
import sys

import pytest

ASKED_FOR_ONLY = {
    "kubernetes": "a pool of a cluster",
    "zmq": "KV events",
    "grpc": "the other wire",
    "opentelemetry.sdk": "traces",
    "tokenizers": "a local tokenizer",
}


@pytest.fixture(scope="module")
def loaded():
    code = "import sys, epp.app.process; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(told.stdout.split())


@pytest.mark.parametrize("module", ASKED_FOR_ONLY, ids=ASKED_FOR_ONLY.get)
def test_no_library_is_loaded_before_it_is_asked_for(loaded, module):
    assert "epp.app.picker" in loaded
    assert module not in loaded
