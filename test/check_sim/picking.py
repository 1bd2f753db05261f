"""Real vLLM behind Envoy and the picker: do its predictions of cached tokens come true?

    python test/check_sim/picking.py --vllm-python VENV/bin/python [--requests 40]

Two engines on the CPU with a model of random weights, one that renders prompts and one that only
tokenizes, under the configuration of docs/kv-events.md. Conversations share four beginnings. The
exit code is 0 when `epp doctor` finds nothing and nine predictions in ten came true.
"""

# ruff: noqa: E402 - a script outside the package has to say first where the package is.

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import aiohttp
import msgspec
import yaml
from check_sim.cases import MODEL
from check_sim.events import BLOCK
from check_sim.servers import SHARED, NotStarted, real_vllm
from check_sim.tiny_model import write_model
from support.envoy import envoy
from support.picker import Picker, picker

from epp.admin.pages import KvEventsPage
from epp.cli.diagnosis import agreement, diagnose
from epp.cli.envoy_config import config_yaml
from epp.cli.envoy_template import Gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from check_sim.recording import Place

ANSWER_S = 300.0
LINKED_S = 60.0
BEGINNINGS = 4
RENDERS = "--enable-scale-out"
ENOUGH = 0.9
SETTLE_S = 1.0


async def predictions(python: Path, folder: Path, requests: int) -> KvEventsPage:
    """What the picker knows of its predictions after so many requests."""
    model, plain = folder / "model", tuple(flag for flag in SHARED if flag != RENDERS)
    write_model(model)
    print("starting vLLM twice; minutes", flush=True)
    async with (
        real_vllm(python, model, folder / "rendering.log") as first,
        real_vllm(python, model, folder / "tokenizing.log", shared=plain) as second,
        gateway(folder, (first, second)) as (made, client),
    ):
        await everybody_is_followed(made)
        chance = random.Random(1)
        texts = [words(chance) for _ in range(BEGINNINGS)]
        for number in range(requests):
            await ask(client, chance.choice(texts), number)
        await asyncio.sleep(SETTLE_S)
        return await page(made)


@asynccontextmanager
async def gateway(
    folder: Path, places: Sequence[Place]
) -> AsyncIterator[tuple[Picker, aiohttp.ClientSession]]:
    """A picker with the documented configuration and an Envoy in front of the engines."""
    listed = folder / "endpoints.yaml"
    listed.write_text(yaml.safe_dump({"endpoints": [endpoint(place) for place in places]}))
    text = (ROOT / "docs" / "kv-events.md").read_text()
    config = folder / "config.yaml"
    config.write_text(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    async with picker(f"--endpoints={listed}", f"--config-file={config}") as made:
        pool = tuple(("127.0.0.1", int(port_of(place.url))) for place in places)
        front = Gateway(response="full", pickers=(made.address,), endpoints=pool)
        async with (
            envoy(config_yaml(front)) as running,
            aiohttp.ClientSession(running.url) as client,
        ):
            yield made, client


def endpoint(place: Place) -> dict[str, object]:
    """An entry of the endpoints file; event ports by label, for each engine has its own."""
    port, events, replay = map(port_of, (place.url, place.events, place.replay))
    labels = {"llm-d.ai/kv-events-port": events, "llm-d.ai/kv-events-replay-port": replay}
    return {"name": f"engine-{port}", "address": "127.0.0.1", "port": port, "labels": labels}


def port_of(url: str) -> str:
    return url.rpartition(":")[2]


def words(chance: random.Random) -> str:
    """Some two hundred tokens: several blocks."""
    return " ".join(f"w{chance.randrange(300)}" for _ in range(2 * BLOCK))


async def ask(client: aiohttp.ClientSession, beginning: str, number: int) -> None:
    messages = [
        {"role": "system", "content": beginning},
        {"role": "user", "content": f"question {number}"},
    ]
    body = {"model": MODEL, "messages": messages, "max_tokens": 4}
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with client.post("/v1/chat/completions", json=body, timeout=timeout) as answer:
        if answer.status != 200:
            raise NotStarted(f"request {number}: {answer.status} {await answer.text()}")


async def everybody_is_followed(made: Picker) -> None:
    async with asyncio.timeout(LINKED_S):
        while not all(row.linked for row in (await page(made)).endpoints):  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def page(made: Picker) -> KvEventsPage:
    async with (
        aiohttp.ClientSession() as http,
        http.get(made.url("debug", "/debug/kvevents")) as answer,
    ):
        return msgspec.json.decode(await answer.read(), type=KvEventsPage)


def told(found: KvEventsPage) -> int:
    """Prints what came of it; the exit code."""
    share = agreement(found.compared, BLOCK) or 0.0
    print(f"{share:.0%} of {len(found.compared)} predictions came true within a block")
    print(f"tokens by {dict(found.tokens_by)}; events {dict(found.counts)}")
    findings = diagnose(found)
    for finding in findings:
        print(f"{finding.condition}: {finding.where}: {finding.evidence}")
    tellers = {"render", "tokenize"} <= found.tokens_by.keys()
    return 0 if share >= ENOUGH and tellers and not findings else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="real vLLM behind Envoy and the picker")
    parser.add_argument("--vllm-python", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        try:
            return told(asyncio.run(predictions(options.vllm_python, Path(name), options.requests)))
        except NotStarted as problem:
            print(f"not started: {problem}")
            return 2


if __name__ == "__main__":
    sys.exit(main())
