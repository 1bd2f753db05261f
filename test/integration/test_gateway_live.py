"""What changes while requests run: the model's name, the configuration, the endpoints."""

import asyncio
import json

import pytest
import yaml
from support.gateway import MODEL, Variant, standing

pytestmark = pytest.mark.envoy

PATIENCE = 45.0
LORA = '{"name": "food-review-1", "path": "/adapters/food-review-1"}'
REWRITE = {"x-llm-d-model-name-rewrite": "food-review-1"}
RENAMING = Variant(trust=True, sim_flags=(f"--lora-modules={LORA}", "--max-loras=2"))


@pytest.mark.parametrize("request_mode", ["buffered", "duplex"])
async def test_a_rewritten_model_comes_back_under_the_clients_name(request_mode):
    async with standing(RENAMING.but(request=request_mode, response="full")) as house:
        whole = await house.chat("one", headers=REWRITE)
        options = {"stream": True, "max_tokens": 30, "ignore_eos": True}
        streamed = await house.chat("two", headers=REWRITE, **options)
        lines = [line[6:] for line in streamed.body.split(b"\n") if line.startswith(b"data: {")]

        assert json.loads(whole.body)["model"] == MODEL
        assert {json.loads(line)["model"] for line in lines} == {MODEL}
        assert b"food-review-1" not in whole.body + streamed.body
        await house.comes_to_rest()


async def test_in_watch_the_body_keeps_the_name_it_came_with():
    async with standing(RENAMING.but(response="watch")) as house:
        answer = await house.chat("one", headers=REWRITE)

        assert json.loads(answer.body)["model"] == "food-review-1"


QUEUE = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins: [{type: queue-scorer}]
"""


async def test_a_reloaded_configuration_loses_no_request_and_no_state(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(QUEUE)
    async with standing(Variant(picker_flags=(f"--config-file={config}",))) as house:
        statuses: list[int] = []
        asking = asyncio.create_task(keep_asking(house, statuses))
        config.write_text(QUEUE.replace("queue-scorer", "queue-scorrer"))
        broken = await until_config(house, reloads=0, refused=1)
        config.write_text(QUEUE.replace("queue-scorer", "running-requests-size-scorer"))
        reloaded = await until_config(house, reloads=1, refused=1)
        asked = len(statuses)
        await until(lambda: len(statuses) >= asked + 5)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        assert "queue-scorer" in str(broken["effective"])
        assert "running-requests-size-scorer" in str(reloaded["effective"])
        assert set(statuses) == {200}
        await house.comes_to_rest()


async def test_endpoints_come_and_go_with_the_file():
    async with standing(Variant("duplex", "full", "original-dst")) as house:
        path = house.folder / "endpoints.yaml"
        all_of_them = path.read_text()
        listed = yaml.safe_load(all_of_them)["endpoints"]
        path.write_text(yaml.safe_dump({"endpoints": listed[:1]}))
        await until_endpoints(house, 1)
        alone = {(await house.chat(f"alone {i}")).pod for i in range(5)}
        path.write_text("endpoints: [{name: broken")
        await until(lambda: "endpoints_broken" in house.picker.log_text())
        still = (await house.chat("broken file")).status
        path.write_text(all_of_them)
        await until_endpoints(house, 3)

        assert alone == {house.sims[0].name}
        assert still == 200


async def keep_asking(house, statuses):
    while True:
        statuses.append((await house.chat("around a reload")).status)


async def until(met):
    async with asyncio.timeout(PATIENCE):
        while not met():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_config(house, *, reloads, refused):
    async with asyncio.timeout(PATIENCE):
        while True:
            page = await house.debug("config")
            text = await house.metrics()
            seen = text.count('outcome="refused",what="config"} 1.0')
            if page["reloads"] == reloads and bool(seen) == bool(refused):
                return page
            await asyncio.sleep(0.05)


async def until_endpoints(house, count):
    async with asyncio.timeout(PATIENCE):
        while len((await house.debug("endpoints"))["endpoints"]) != count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
