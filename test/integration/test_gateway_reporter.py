"""Numbers made of token counts reach the gateway's metadata, through real Envoy."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
import yaml
from support.envoy import envoy
from support.gateway import CHAT, SIM_FLAGS, Variant, chat_body, gateway_of, write_endpoints
from support.picker import picker
from support.sims import simulators

from epp.cli.envoy_config import config_yaml
from epp.cli.envoy_template import API

pytestmark = pytest.mark.envoy

COST = "x-gateway-inference-request-cost"
CONFIG = json.dumps(
    {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [
            {
                "type": "request-attribute-reporter",
                "parameters": {
                    "attributes": [
                        {
                            "key": {"name": COST},
                            "expression": "usage.prompt_tokens + 1000 * usage.completion_tokens",
                            "condition": "usage.completion_tokens > 1",
                        }
                    ]
                },
            },
            {"type": "queue-scorer"},
        ],
    }
)


def with_access_log(text, path):
    """The configuration, and a line of JSON for each request with the number in it."""
    config = yaml.safe_load(text)
    (listener,) = config["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["access_log"] = [
        {
            "name": "envoy.access_loggers.file",
            "typed_config": {
                "@type": f"{API}.extensions.access_loggers.file.v3.FileAccessLog",
                "path": str(path),
                "log_format": {
                    "json_format": {
                        "status": "%RESPONSE_CODE%",
                        "cost": f"%DYNAMIC_METADATA(envoy.lb:{COST})%",
                    }
                },
            },
        }
    ]
    return yaml.safe_dump(config)


@asynccontextmanager
async def logged(variant, folder):
    """Envoy's URL, a client, and a function that waits for so many lines of its access log."""
    path = folder / "access.log"
    async with simulators(1, *SIM_FLAGS) as sims:
        flags = (f"--endpoints={write_endpoints(folder, sims)}", "--secure-serving=false")
        async with picker(*flags, f"--config-text={CONFIG}") as running:
            text = with_access_log(config_yaml(gateway_of(variant, running, sims)), path)
            async with envoy(text) as front, aiohttp.ClientSession() as client:

                async def lines(count):
                    async with asyncio.timeout(15):
                        while True:
                            found = path.read_text().splitlines() if path.exists() else []
                            if len(found) >= count:
                                return [json.loads(line) for line in found]
                            await asyncio.sleep(0.05)  # Envoy writes its log out at times

                yield front.url, client, lines


@pytest.mark.parametrize(
    "variant", [Variant("duplex", "full"), Variant("buffered", "full")], ids=str
)
async def test_the_gateway_logs_what_a_response_cost(variant, tmp_path):
    asked = [
        chat_body("whole", max_tokens=5, ignore_eos=True),
        chat_body(
            "in pieces",
            max_tokens=7,
            ignore_eos=True,
            stream=True,
            stream_options={"include_usage": True},
        ),
        chat_body("too short to tell", max_tokens=1, ignore_eos=True),
    ]
    prompts = []
    async with logged(variant.but(tls=False), tmp_path) as (url, client, lines):
        for body in asked:
            async with client.post(url + CHAT, json=body) as answer:
                prompts.append(prompt_tokens(await answer.read()))
        costs = [line["cost"] for line in await lines(len(asked))]

    assert costs == [prompts[0] + 5000, prompts[1] + 7000, None]


def prompt_tokens(answer):
    """Of a whole answer, or of the last event of a stream that has counts."""
    events = [line.removeprefix(b"data: ") for line in answer.splitlines() if b'"usage"' in line]
    return json.loads(events[-1])["usage"]["prompt_tokens"]
