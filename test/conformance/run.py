"""Puts the wire before outside judges: h2spec, h2load, nghttp, grpc-go, grpcio; then fuzz and soak.

    python test/conformance/run.py [--frames N] [--soak-minutes N] [only ...]

Prints one line per judge and exits 1 when one finds fault or a tool cannot be had.
"""

# ruff: noqa: E402 - a script outside the package has to say first where the package is.

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE)]

from tools import MissingTool, tool

GRPC = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
HELLO = b"\x00\x00\x00\x00\x05hello"


@dataclass(frozen=True)
class Bench:
    """A running echo server and a folder for files."""

    folder: Path
    ports: dict[str, int]

    def url(self, kind: str, method: str) -> str:
        scheme = {"plain": "http", "tls": "https"}[kind]
        return f"{scheme}://127.0.0.1:{self.ports[kind]}/echo.Echo/{method}"

    def body(self) -> str:
        path = self.folder / "body"
        path.write_bytes(HELLO)
        return str(path)


class Fault(Exception):
    """What a judge found."""


def command(*words: str, stdin: str | None = None, code: int | None = 0) -> str:
    """Run a tool and return what it printed. Raises Fault when it fails, with its last words."""
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=900, cwd=ROOT)
    printed = done.stdout + done.stderr
    if code is not None and done.returncode != code:
        raise Fault(f"{words[0]} ended with {done.returncode}: {printed[-1500:]}")
    return printed


def h2spec(bench: Bench) -> str:
    """Every case but the written exceptions passes, in the clear and over TLS."""
    cases = tomllib.loads((HERE / "exceptions.toml").read_text())["case"]
    excepted = {(case["suite"], case["name"]) for case in cases}
    counts = []
    for kind, extra in (("plain", []), ("tls", ["-t", "-k"])):
        total, failed = _h2spec_once(bench, kind, extra)
        if failed != excepted:
            raise Fault(
                f"{kind}: unexpected {sorted(failed - excepted)}, "
                f"passing exceptions {sorted(excepted - failed)}"
            )
        counts.append(f"{kind} {total - len(failed)} of {total}")
    return f"{', '.join(counts)}; {len(excepted)} written exceptions"


def _h2spec_once(bench: Bench, kind: str, extra: list[str]) -> tuple[int, set[tuple[str, str]]]:
    report = bench.folder / f"h2spec-{kind}.xml"
    where = ["-p", str(bench.ports[kind]), "-P", "/echo.Echo/Unary", "-o", "2"]
    command(tool("h2spec"), *where, *extra, "-j", str(report), code=None)
    cases = list(ET.parse(report).getroot().iter("testcase"))
    if len(cases) < 140:
        raise Fault(f"{kind}: only {len(cases)} cases ran")
    failed = {(case.get("package", ""), case.get("classname", "")) for case in cases if len(case)}
    return len(cases), failed


def h2load(bench: Bench) -> str:
    """Twenty thousand unary calls over a few connections, all of them answered well."""
    rates = []
    for kind in ("plain", "tls"):
        load = ["-n", "20000", "-c", "4", "-m", "20", "-d", bench.body()]
        printed = command(tool("h2load"), *load, *GRPC, bench.url(kind, "Unary"))
        if "20000 succeeded" not in printed or "20000 2xx" not in printed:
            raise Fault(f"{kind}: {printed[-800:]}")
        found = re.search(r"([\d.]+) req/s", printed)
        rates.append(f"{kind} {found[1] if found else '?'} calls/s")
    return ", ".join(rates)


def nghttp(bench: Bench) -> str:
    """A call with padding and priorities, read frame by frame."""
    for kind in ("plain", "tls"):
        talk = ["-v", "-n", "--padding=40", "-d", bench.body()]
        printed = command(tool("nghttp"), *talk, *GRPC, bench.url(kind, "Unary"))
        if "grpc-status: 0" not in printed or "RST_STREAM" in printed:
            raise Fault(f"{kind}: {printed[-1500:]}")
    return "answered with padding and priorities, plain and tls"


def grpc_go(bench: Bench) -> str:
    """grpcurl is a grpc-go client: unary, bidi, a status with details, metadata."""
    for kind, security in (("plain", ["-plaintext"]), ("tls", ["-insecure"])):
        proto = ["-import-path", str(HERE), "-proto", "echo.proto"]
        where = f"127.0.0.1:{bench.ports[kind]}"
        call = [tool("grpcurl"), *security, *proto, "-d", "@", where]
        texts = "".join(json.dumps({"text": f"n{n}"}) for n in range(50))
        unary = command(*call, "echo.Echo/Unary", stdin='{"text": "hi"}')
        bidi = command(*call, "echo.Echo/Bidi", stdin=texts)
        refused = command(*call, "echo.Echo/Refuse", stdin="{}", code=None)
        if '"hi"' not in unary or bidi.count("text") != 50 or "100% née" not in refused:
            raise Fault(f"{kind}: {unary} {bidi[-300:]} {refused}")
    return "unary, bidi and refused calls, plain and tls"


def grpcio(bench: Bench) -> str:
    """The integration tests with a grpcio client."""
    tests = "test/integration/test_http2_grpcio.py"
    printed = command(sys.executable, "-m", "pytest", "-q", tests)
    return printed.strip().splitlines()[-1]


JUDGES: dict[str, Callable[[Bench], str]] = {
    "h2spec": h2spec,
    "h2load": h2load,
    "nghttp": nghttp,
    "grpc-go": grpc_go,
    "grpcio": grpcio,
}


@contextmanager
def served(folder: Path) -> Iterator[Bench]:
    """The echo server in a process of its own. Raises Fault when it did not stop cleanly."""
    certificate = _certificate(folder)
    log = folder / "server.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py"), certificate],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        try:
            yield Bench(folder, json.loads(process.stdout.readline()))
            process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
    complaints = log.read_text()
    if process.returncode or complaints:
        raise Fault(f"the server ended with {process.returncode}: {complaints[-2000:]}")


def _certificate(folder: Path) -> str:
    key, certificate, both = (folder / name for name in ("key", "certificate", "both"))
    make = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    )
    command(tool("openssl"), *make.split(" "), "-keyout", str(key), "-out", str(certificate))
    both.write_text(key.read_text() + certificate.read_text())
    return str(both)


def judge(bench: Bench, names: Sequence[str]) -> int:
    """Ask each judge; returns how many found fault."""
    faults = 0
    for name in names:
        try:
            print(f"ok    {name:8} {JUDGES[name](bench)}", flush=True)
        except (Fault, MissingTool, subprocess.TimeoutExpired) as error:
            faults += 1
            print(f"FAULT {name:8} {error}", flush=True)
    return faults


def fuzz(frames: int) -> int:
    done = subprocess.run([sys.executable, str(HERE / "fuzz.py"), "--frames", str(frames)])
    return done.returncode


def soak(minutes: float) -> int:
    """The short form: what is slow shows in an hour, what is gross in minutes."""
    if not minutes:
        return 0
    # On a machine that is busy the loop is late by itself, and that is not what is asked here.
    asked = ("--minutes", str(minutes), "--rate", "100", "--every", "8")
    command = (sys.executable, str(HERE / "soak.py"), *asked, "--picker-flag=--max-loop-lag=10s")
    return subprocess.run(command).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200_000, help="frames of the fuzz run")
    parser.add_argument("--soak-minutes", type=float, default=2.0, help="0 leaves the soak out")
    parser.add_argument("only", nargs="*", choices=[*JUDGES, []], help="judges to ask")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as bench:
            faults = judge(bench, options.only or list(JUDGES))
    except (Fault, MissingTool) as error:
        print(f"FAULT server   {error}")
        return 1
    codes = (faults, fuzz(options.frames), soak(options.soak_minutes))
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main())
