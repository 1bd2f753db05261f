"""How `epp run` starts, says that it is ready, fails in one line, and ends."""

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager

import grpc
import pytest
from support.envoy import free_port
from support.ext_proc import modes, request_body, request_headers
from support.picker import PORT_FLAGS, ROOT, Picker, picker

from epp.wire.gen.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from epp.wire.session import PROCESS

ENDPOINTS = 'endpoints: [{name: pod-a, address: 127.0.0.1, port: "1"}]'
CHAT = json.dumps({"model": "llama", "messages": [{"role": "user", "content": "hello"}]}).encode()
FREE = dict.fromkeys(PORT_FLAGS.values(), 0)


def endpoints(folder):
    file = folder / "endpoints.yaml"
    file.write_text(ENDPOINTS)
    return file


async def failing(path, **ports):
    """Exit code, standard output and the lines of standard error of a run that cannot start."""
    flags = FREE | ports
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "epp", "run", f"--endpoints={path}", "--grpc-host=127.0.0.1"),
        *("--metrics-host=127.0.0.1", *(f"{flag}={port}" for flag, port in flags.items())),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    out, said = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode, out, said.decode().splitlines()


async def test_a_missing_file_of_endpoints_is_one_line(tmp_path):
    code, out, said = await failing(tmp_path / "none.yaml")

    assert (code, out, len(said)) == (1, b"", 1)
    assert "none.yaml: cannot be read" in said[0]


@pytest.mark.parametrize("flag", FREE)
async def test_a_port_in_use_is_one_line_with_its_flag(tmp_path, flag):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, said = await failing(endpoints(tmp_path), **{flag: port})

    assert (code, out, len(said)) == (1, b"", 1)
    assert f"{flag} {port}: " in said[0]


async def test_one_line_is_printed_and_says_ready(tmp_path):
    async with picker("--endpoints", str(endpoints(tmp_path))) as made:
        process = made.process
        process.send_signal(signal.SIGTERM)
        rest, _ = await asyncio.wait_for(process.communicate(), 10)

    assert rest == b""
    assert set(made.ports) == set(PORT_FLAGS)
    assert process.returncode == 0


async def answers(port):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def until_it_answers(port):
    async with asyncio.timeout(20):
        while not await answers(port):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_nobody_can_connect_before_the_endpoints_are_known(tmp_path):
    """A pipe in place of the file: the picker reads until somebody has written."""
    pipe = tmp_path / "endpoints.yaml"
    os.mkfifo(pipe)
    made = Picker(["--endpoints", str(pipe), "--grpc-host=127.0.0.1"], tmp_path / "log")
    made.ports = {name: free_port() for name in PORT_FLAGS}
    starting = asyncio.create_task(made.start())
    await until_it_answers(made.ports["metrics"])
    before = await answers(made.ports["grpc"])
    await asyncio.to_thread(pipe.write_text, ENDPOINTS)
    await starting
    after = await answers(made.ports["grpc"])
    await made.kill()

    assert (before, after) == (False, True)


@asynccontextmanager
async def open_stream(port):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stream = channel.stream_stream(
            PROCESS,
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )(timeout=20)
        await stream.write(modes(request_headers(), *["FULL_DUPLEX_STREAMED"] * 2))
        await stream.write(request_body(CHAT, end=True))
        await stream.read()
        yield stream
        stream.cancel()


async def test_a_second_signal_ends_a_drain_at_once(tmp_path):
    flags = ("--endpoints", str(endpoints(tmp_path)), "--secure-serving=false")
    async with picker(*flags, "--drain-timeout=60s") as made:
        async with open_stream(made.ports["grpc"]):
            made.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                while "draining" not in made.log_text():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            waiting = made.process.returncode
            made.process.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(made.process.wait(), 10)
        said = made.log_text()

    assert (waiting, code) == (None, 0)
    assert "Traceback" not in said
