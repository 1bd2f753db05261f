"""Finds the outside tools of the conformance run, or installs them; never goes on without one."""

from __future__ import annotations

# ruff: noqa: E402 - a script outside the package has to say first where the package is.
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from support.go_toolchain import NoGo, go_environment, go_program
from support.kept import kept

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
    return shutil.which(name, path=f"{kept('bin')}{os.pathsep}{os.environ.get('PATH', '')}")


def _install(name: str) -> None:
    if name in GO_TOOLS:
        _run(name, [_go(name), "install", GO_TOOLS[name]], {"GOBIN": str(kept("bin"))})
    elif os.geteuid() == 0 and shutil.which("apt-get"):
        _run(name, ["apt-get", "update"], {})
        _run(name, ["apt-get", "install", "-y", "--no-install-recommends", DEBIAN_TOOLS[name]], {})
    else:
        raise MissingTool(f"{name} is missing: install the package {DEBIAN_TOOLS[name]}")


def _go(name: str) -> str:
    try:
        return go_program()
    except NoGo as error:
        raise MissingTool(f"{name} is built with Go: {error}") from error


def _run(name: str, command: list[str], extra: dict[str, str]) -> None:
    done = subprocess.run(
        command, env={**go_environment(), **extra}, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        raise MissingTool(f"{name} could not be installed: {done.stderr[-500:]}")
