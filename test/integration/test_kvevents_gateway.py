"""Exact cache knowledge through real Envoy: engines publish, the picker follows, answers agree."""

import asyncio
import json
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from support.envoy import envoy
from support.gateway import CHAT, SIM_FLAGS, House, Variant, gateway_of
from support.picker import ROOT, picker
from support.sims import simulators

from epp.cli.envoy_config import config_yaml
from epp.kvevents.settings import PORT_LABEL, REPLAY_PORT_LABEL

pytestmark = pytest.mark.envoy

FULL = Variant("duplex", "full", lb="original-dst", tls=False)
PUBLISHING = ("--zmq-endpoint=tcp://*:0", "--kv-events-replay-endpoint=tcp://*:0")
SOON = 45.0


def config(*plugins, **parameters):
    """The default scorer over exact matches."""
    precise = {"type": "precise-prefix-cache-producer", "parameters": parameters}
    scorer = {"type": "expected-work-scorer"}
    return yaml.safe_dump(
        {
            "apiVersion": "llm-d.ai/v1alpha1",
            "kind": "EndpointPickerConfig",
            "plugins": [*plugins, precise, scorer],
            "schedulingProfiles": [
                {"name": "default", "plugins": [{"pluginRef": "expected-work-scorer"}]}
            ],
        }
    )


RENDERED = {"type": "token-producer", "parameters": {"vllm": {"url": "pool"}}}


async def listed(sims, *, replay=True):
    """The endpoints file's rows, with the ports each engine publishes on."""
    rows = []
    for number, sim in enumerate(sims):
        async with sim.session.get(f"{sim.url}/kv_event_sources") as answer:
            source = (await answer.json()).get("0")
        row = {"name": f"vllm-{number}", "address": sim.host, "port": str(sim.port)}
        if source:
            row["labels"] = {PORT_LABEL: source["endpoint"].rpartition(":")[2]}
            if replay:
                port = source["replay_endpoint"].rpartition(":")[2]
                row["labels"][REPLAY_PORT_LABEL] = port
        rows.append(row)
    return rows


@asynccontextmanager
async def standing(text, *, replicas=3, sim_flags=PUBLISHING, replay=True):
    """Publishing simulators, picker, Envoy and a client."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "endpoints.yaml"
        async with simulators(replicas, *SIM_FLAGS, *sim_flags) as sims:
            path.write_text(yaml.safe_dump({"endpoints": await listed(sims, replay=replay)}))
            flags = (f"--endpoints={path}", f"--config-text={text}", "--secure-serving=false")
            async with (
                picker(*flags) as running,
                envoy(config_yaml(gateway_of(FULL, running, sims))) as front,
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as client,
            ):
                house = House(FULL, sims, running, front, client, Path(name))
                await until(house, lambda page: len(page["endpoints"]) == replicas)
                yield house


async def until(house, met):
    """The first page of followed caches that is as wanted."""
    end = asyncio.get_running_loop().time() + SOON
    while True:
        page = await house.debug("kvevents")
        if met(page):
            return page
        assert asyncio.get_running_loop().time() < end, f"not yet: {page}"
        await asyncio.sleep(0.05)


def restarted(page):
    """Endpoints whose engine was noticed to have started again."""
    return {row["endpoint"] for row in page["endpoints"] if "restart" in row["resets"]}


def blocks(page):
    return sum(row["blocks"] for row in page["endpoints"])


async def settled(house, least=1):
    """Nothing runs, and the picker has heard the last batch of every engine."""
    for sim in house.sims:
        await sim.until(SOON, open=0, running=0)
    last = {sim.address: (await sim.state())["events"]["next_seq"] for sim in house.sims}
    names = {row["address"]: row["name"] for row in (await house.debug("endpoints"))["endpoints"]}
    wanted = {names[address]: number for address, number in last.items() if number}

    def heard(page):
        seen = {row["endpoint"]: row for row in page["endpoints"]}
        linked = all(row["linked"] for row in page["endpoints"])
        caught_up = all(seen[name]["next"] == number for name, number in wanted.items())
        live = all(seen[name]["live"] for name in wanted)
        return linked and caught_up and live and blocks(page) >= least

    return await until(house, heard)


async def turns(house, conversations, count):
    """Conversations that grow by a turn each, all cached tokens as the answers tell them."""
    cached = []
    for turn in range(1, count + 1):
        for number in range(conversations):
            text = f"conversation {number} " * 40
            rows = [{"role": "user", "content": f"{text} question {past}"} for past in range(turn)]
            answer = await house.chat(messages=rows)
            assert answer.status == 200
            usage = json.loads(answer.body)["usage"]
            cached.append((usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0))
        await settled(house)
    return cached


async def heard_once(house):
    """Every engine has been asked, behind the picker's back, until the picker heard of it.

    What is published before a subscription has arrived is lost where there is no replay.
    """
    for sim in house.sims:
        number = 0
        while not live_at(house, sim, await house.debug("kvevents")):
            body = {"model": "test-model", "prompt": f"{number} of {sim.name} " * 40}
            async with house.client.post(f"{sim.url}/v1/completions", json=body) as answer:
                assert answer.status == 200
            number += 1
            assert number < 1000, f"never heard of {sim.name}"
            await asyncio.sleep(0.05)


def live_at(house, sim, page):
    place = house.sims.index(sim)
    return {row["endpoint"]: row["live"] for row in page["endpoints"]}[f"vllm-{place}"]


async def doctor(house):
    """What `epp doctor` says: exit code and findings."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "epp", "doctor", "--format=json"),
        f"--debug-url={house.picker.url('debug')}",
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    output, _ = await process.communicate()
    told = json.loads(output)
    return process.returncode, [finding["condition"] for finding in told["findings"]], told


async def test_rendered_prompts_are_predicted_exactly():
    async with standing(config(RENDERED)) as house:
        cached = await turns(house, conversations=4, count=4)
        page = await settled(house)
        compared = page["compared"]

        assert [one["predicted"] for one in compared] == [one["cached"] for one in compared]
        assert [one["cached"] for one in compared] == cached
        assert sum(cached) > 0
        assert page["tokens_by"].keys() <= {"render", "render-prefix"}
        assert await doctor(house) == (0, [], {"agreement": 1.0, "findings": []})


async def test_prompts_sent_as_tokens_need_no_rendering():
    async with standing(config()) as house:
        for _ in range(3):
            body = {"model": "test-model", "prompt": list(range(1000, 1200)), "max_tokens": 1}
            await house.send("POST", "/v1/completions", json=body)
            page = await settled(house)
        compared = page["compared"]

        assert [one["predicted"] for one in compared] == [0, 192, 192]
        assert [one["cached"] for one in compared] == [0, 192, 192]
        assert page["tokens_by"] == {"request": 3}


async def test_the_endpoint_that_holds_a_prompt_is_picked_whoever_sent_it_there():
    async with standing(config(RENDERED)) as house:
        for attempt in range(20):
            body = {
                "model": "test-model",
                "messages": [{"role": "user", "content": f"{attempt} known to one alone " * 60}],
                "max_tokens": 1,
            }
            url = f"{house.sims[2].url}/v1/chat/completions"
            async with house.client.post(url, json=body) as answer:
                await answer.read()
            await settled(house)
            fresh = await all_fresh(house)
            answers = [await house.send("POST", CHAT, json=body) for _ in range(3)]
            if fresh and await all_fresh(house):
                break

        assert {answer.pod for answer in answers} == {house.sims[2].name}


async def all_fresh(house):
    """Whether every gauge is known: where one is not, its endpoint ranks last whatever it holds."""
    return all(row["fresh"] for row in (await house.debug("endpoints"))["endpoints"])


async def test_an_engine_that_starts_again_is_not_believed_to_hold_anything():
    async with standing(config(RENDERED)) as house:
        await turns(house, conversations=3, count=2)
        held = {row["endpoint"] for row in (await settled(house))["endpoints"] if row["blocks"]}
        for sim in house.sims:
            await sim.faults(restart=True)
        await until(house, lambda page: restarted(page) == held)
        await turns(house, conversations=3, count=2)
        compared = (await house.debug("kvevents"))["compared"][-6:]

        assert [one["predicted"] for one in compared] == [one["cached"] for one in compared]


async def test_text_without_tokens_is_named_by_the_doctor():
    async with standing(config()) as house:
        for turn in range(1, 5):
            rows = [
                {"role": "user", "content": "same beginning " * 20 + f"{turn} " * past}
                for past in range(1, 4)
            ]
            body = {"model": "test-model", "messages": rows, "max_tokens": 1}
            for sim in house.sims:
                async with house.client.post(f"{sim.url}/v1/chat/completions", json=body) as answer:
                    await answer.read()
            await house.chat(messages=rows)
        await settled(house)
        code, conditions, _ = await doctor(house)

        assert code == 1
        assert set(conditions) == {"tokens unknown"}


async def test_engines_without_events_are_named_by_the_doctor():
    async with standing(config(RENDERED), replicas=1, sim_flags=()) as house:
        await house.chat("hello " * 100)
        code, conditions, _ = await doctor(house)

        assert (code, conditions) == (1, ["wrong address, or events off"])


async def test_a_picker_that_starts_again_starts_warm(tmp_path):
    text = config(RENDERED, snapshotFile=str(tmp_path / "caches"))
    async with standing(text, replay=False) as house:
        await heard_once(house)
        await turns(house, conversations=3, count=2)
        before = await settled(house)
        await house.picker.restart()
        after = await until(house, lambda page: blocks(page) > 0)
        await heard_once(house)
        await settled(house, blocks(before))

        assert blocks(after) == blocks(before)
