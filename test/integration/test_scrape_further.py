"""`epp run` reads a second page of each endpoint, on a port of its own, beside the engine's."""

import asyncio
import json

import aiohttp
from aiohttp import web
from support.picker import picker

CONFIG = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {name: gpus, type: metrics-data-source, parameters: {port: %d, path: /gpu, interval: 50ms}}
- type: metrics-data-source
- type: core-metrics-extractor
- name: heat
  type: core-metrics-extractor
  parameters:
    engineConfigs: [{name: vllm, customMetrics: [{attributeKey: heat, metricSpec: gpu_heat}]}]
- type: queue-scorer
dataLayer:
  sources:
  - {pluginRef: gpus, extractors: [{pluginRef: heat}]}
  - {pluginRef: metrics-data-source, extractors: [{pluginRef: core-metrics-extractor}]}
"""


async def serving(path, text):
    """A server of one page, and its port."""

    async def page(request):
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get(path, page)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, runner.addresses[0][1]


async def test_both_pages_are_known_of_an_endpoint(tmp_path):
    engine, port = await serving(
        "/metrics", "vllm:num_requests_waiting 4\nvllm:num_requests_running 1\n"
    )
    gpu, gpu_port = await serving("/gpu", "gpu_heat 71\nvllm:num_requests_waiting 99\n")
    config, file = tmp_path / "config.yaml", tmp_path / "endpoints.json"
    config.write_text(CONFIG % gpu_port)
    one = {"name": "a", "address": "127.0.0.1", "port": str(port)}
    file.write_text(json.dumps({"endpoints": [one]}))
    row = {"columns": {}, "raw": {"waiting": None}}
    try:
        async with (
            picker("--endpoints", str(file), "--config-file", str(config)) as made,
            aiohttp.ClientSession() as session,
        ):
            url = f"http://127.0.0.1:{made.ports['debug']}/debug/endpoints"
            async with asyncio.timeout(10):
                while not row["columns"] or row["raw"]["waiting"] is None:
                    async with session.get(url) as answer:
                        (row,) = (await answer.json())["endpoints"]
    finally:
        await engine.cleanup()
        await gpu.cleanup()

    assert (row["raw"]["waiting"], row["columns"]) == (4.0, {"heat": 71.0})
