"""The simulator beside what real vLLM showed once (`make check-sim` makes the recording)."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest
from check_sim.allowed import ALLOWED
from check_sim.recording import record
from check_sim.servers import simulator
from check_sim.verdict import judge, table

RECORDINGS = sorted((Path(__file__).parents[1] / "testdata").glob("vllm-*.json"))


@pytest.mark.parametrize("path", RECORDINGS, ids=[path.stem for path in RECORDINGS])
async def test_the_simulator_is_as_vllm_was_seen_to_be(path, tmp_path):
    real = json.loads(path.read_text())
    async with (
        simulator(real["version"], tmp_path / "model", tmp_path / "log") as place,
        aiohttp.ClientSession() as session,
    ):
        simulated = await record(session, place, real["adapter"])
    verdict = judge(real, simulated, ALLOWED)
    assert not verdict.faults, table(verdict)


def test_there_is_a_recording():
    assert RECORDINGS
