"""Pickers, `python -m epp run --pool-name`, against an API server of the test's; what they say."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.ext_proc import request_body, request_headers
from support.picker import WIRE

from epp.wire.gen.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from epp.wire.session import PROCESS

ROOT = Path(__file__).resolve().parents[2]
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
FLAGS = (
    "--pool-name=pool",
    "--pool-namespace=default",
    "--grpc-host=127.0.0.1",
    "--metrics-host=127.0.0.1",
    "--secure-serving=false",
    "--drain-timeout=2s",
    *(f"--{port}-port=0" for port in ("grpc", "grpc-health", "metrics", "debug")),
)


class ClusterPicker:
    """One process and what can be asked of it."""

    def __init__(self, process, ports, log):
        self.process = process
        self.ports = ports
        self.log = log

    def log_text(self):
        return self.log.read_text(errors="replace")

    async def health(self, service="readiness"):
        """Whether the health service says SERVING."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.ports['health']}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    async def pick(self, body=CHAT, headers=None):
        """The answer to one request in buffered mode: destination and body, or the status."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.ports['grpc']}") as channel:
            stream = channel.stream_stream(
                PROCESS,
                request_serializer=ProcessingRequest.SerializeToString,
                response_deserializer=ProcessingResponse.FromString,
            )(timeout=30)
            first = request_headers({"content-type": "application/json", **(headers or {})})
            first.protocol_config.request_body_mode = 2
            await stream.write(first)
            await stream.write(request_body(json.dumps(body).encode(), end=True))
            while True:
                answer = await stream.read()
                if answer.HasField("immediate_response"):
                    return answer.immediate_response.status.code, None
                if answer.HasField("request_body"):
                    await stream.done_writing()
                    return picked(answer)

    async def destination(self):
        """Where a request goes now; the status where it goes nowhere."""
        return (await self.pick())[0]

    async def metrics(self, token=""):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{self.ports['metrics']}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            return answer.status, await answer.text()

    async def end(self, how=signal.SIGTERM):
        if self.process.returncode is None:
            self.process.send_signal(how)
        return await self.ended()

    async def ended(self):
        """The exit code, once it has ended by itself."""
        async with asyncio.timeout(60):
            await self.process.communicate()
        return self.process.returncode


def picked(answer):
    common = answer.request_body.response
    headers = {
        h.header.key: h.header.raw_value.decode() for h in common.header_mutation.set_headers
    }
    body = common.body_mutation.body
    return headers["x-gateway-destination-endpoint"], json.loads(body) if body else None


@asynccontextmanager
async def cluster_picker(kubeconfig, *flags, name="epp-0", base=FLAGS):
    """A picker whose ports are open; whether it is ready is another question."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "picker.log"
        env = {**os.environ, "KUBECONFIG": kubeconfig, "POD_NAME": name, "NAMESPACE": "default"}
        with log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "epp", "run", *base, f"--wire={WIRE}", *flags),
                stdout=asyncio.subprocess.PIPE,
                stderr=sink,
                cwd=ROOT,
                env=env,
            )
        made = ClusterPicker(process, {}, log)
        try:
            made.ports = await asyncio.wait_for(ports_of(process, log), 60)
            yield made
        except BaseException as error:
            error.add_note(f"the picker's log ends:\n{made.log_text()[-4000:]}")
            raise
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def ports_of(process, log):
    """Of the ready line or, while it is not ready, of the log; with `ready`."""
    line = asyncio.ensure_future(process.stdout.readline())
    while not line.done():
        told = [text for text in log.read_text().splitlines() if '"not ready yet"' in text]
        if told:
            line.cancel()
            await asyncio.wait([line])
            return {"ready": False, **json.loads(told[0])}
        await asyncio.wait([line], timeout=0.02)
    assert line.result(), log.read_text()
    return json.loads(line.result())


async def until(wanted, seconds=45.0):
    """Wait until an awaitable's result is true."""
    async with asyncio.timeout(seconds):
        while not await wanted():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
