"""Puts the simulator beside real vLLM and tells where they differ.

    python test/check_sim/run.py --vllm-python VENV/bin/python [--keep FILE] [--against FILE]

Real vLLM runs on the CPU with a model of two random layers that is written here; nothing is
downloaded. Both servers get the same flags and the same requests (`cases.py`, `events.py`).
Compared are status, content type and shape of every answer and of every streamed event (keys and
kinds of values, not words), families, types and labels of /metrics, what each request adds to the
counters, and the bytes of KV events. Differences that are meant stand in `allowed.py`, each with
its reason; any other makes the exit code 1.

`--keep` writes what real vLLM showed; `--against` takes such a file in place of a real server, as
the ordinary tests do with the one in `test/testdata`.
"""

# ruff: noqa: E402 - a script outside the package has to say first where the package is.

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import aiohttp
from check_sim.allowed import ALLOWED
from check_sim.recording import record
from check_sim.servers import NotStarted, real_vllm, simulator, version_of
from check_sim.tiny_model import write_adapter, write_model
from check_sim.verdict import judge, table

if TYPE_CHECKING:
    from check_sim.recording import Recording

ANSWER_S = 300.0
"""The first use of some operators takes vLLM a minute on a busy CPU."""


async def check(options: argparse.Namespace, folder: Path) -> int:
    """0 when the simulator is as vLLM is, but for what is allowed."""
    write_model(folder / "model")
    write_adapter(folder / "adapter")
    if options.against:
        real = json.loads(options.against.read_text())
    else:
        real = await observed(options.vllm_python, folder)
    if options.keep:
        options.keep.write_text(json.dumps(real, separators=(",", ":")) + "\n")
    simulated = await simulation(real["version"], folder, real["adapter"])
    verdict = judge(real, simulated, ALLOWED)
    print(f"vLLM {real['version']} and the simulator")
    print(table(verdict))
    return 1 if verdict.faults else 0


async def observed(python: Path, folder: Path) -> Recording:
    """The recording of real vLLM, with its version."""
    print("starting vLLM; minutes", flush=True)
    async with (
        real_vllm(python, folder / "model", folder / "vllm.log") as place,
        _client() as client,
    ):
        adapter = str(folder / "adapter")
        found = await record(client, place, adapter)
        return {"version": await version_of(client, place.url), "adapter": adapter, **found}


async def simulation(version: str, folder: Path, adapter: str) -> Recording:
    """The recording of the simulator, which only takes the adapter's folder into its hashes."""
    async with (
        simulator(version, folder / "model", folder / "sim.log") as place,
        _client() as client,
    ):
        return await record(client, place, adapter)


def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S))


def main() -> int:
    parser = argparse.ArgumentParser(description="the simulator beside real vLLM")
    parser.add_argument("--vllm-python", type=Path, help="the Python vLLM is installed for")
    parser.add_argument("--against", type=Path, help="a kept recording in place of a real server")
    parser.add_argument("--keep", type=Path, help="where to write what real vLLM showed")
    parser.add_argument("--folder", type=Path, help="where model and logs go; default: temporary")
    options = parser.parse_args()
    if not options.vllm_python and not options.against:
        parser.error("give --vllm-python, the interpreter of an environment that has vLLM")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        try:
            return asyncio.run(check(options, folder))
        except NotStarted as problem:
            print(f"not started: {problem}")
            return 2


if __name__ == "__main__":
    sys.exit(main())
