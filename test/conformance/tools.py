"""Finds the outside tools of the conformance run, or installs them; never goes on without one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "bin"

GO_TOOLS = {
    "h2spec": "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible",
    "grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
}
DEBIAN_TOOLS = {"nghttp": "nghttp2-client", "h2load": "nghttp2-client", "openssl": "openssl"}


class MissingTool(Exception):
    """A tool that is not here and could not be installed."""


def tool(name: str) -> str:
    """The path of a tool, installed if need be. Raises MissingTool."""
    path = _find(name)
    if path is None:
        _install(name)
        path = _find(name)
    if path is None:
        raise MissingTool(f"{name} was installed and still cannot be found")
    return path


def _find(name: str) -> str | None:
    return shutil.which(name, path=f"{CACHE}{os.pathsep}{os.environ.get('PATH', '')}")


def _install(name: str) -> None:
    if name in GO_TOOLS:
        if shutil.which("go") is None:
            raise MissingTool(f"{name} needs the Go toolchain: install go, or put {name} on PATH")
        CACHE.mkdir(parents=True, exist_ok=True)
        _run(name, ["go", "install", GO_TOOLS[name]], {"GOBIN": str(CACHE)})
    elif os.geteuid() == 0 and shutil.which("apt-get"):
        _run(name, ["apt-get", "update"], {})
        _run(name, ["apt-get", "install", "-y", "--no-install-recommends", DEBIAN_TOOLS[name]], {})
    else:
        raise MissingTool(f"{name} is missing: install the package {DEBIAN_TOOLS[name]}")


def _run(name: str, command: list[str], extra: dict[str, str]) -> None:
    done = subprocess.run(
        command, env={**os.environ, **extra}, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        raise MissingTool(f"{name} could not be installed: {done.stderr[-500:]}")
