"""Compile the protos of this folder into the rooms that speak them; `--check` fails if stale.

The generated modules lie flat and register in a descriptor pool of their room's own, so that
neither the `envoy` package of the Envoy wheel nor anybody else's Envoy, engine or health
descriptors can collide with them. `--check` also holds `upstream.binpb` against the published
packages it was taken from.
"""

import argparse
import filecmp
import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

import upstream
from grpc_tools import protoc

HERE = Path(__file__).parent
EPP = HERE.parent / "epp"
ROOMS = {"wire": ("envoy", "grpc"), "request": ("google", "vllm")}
"""Which room speaks the protos of which folders."""
INIT = '''"""Compiled from `proto/` by `make generate`; nothing here is written by hand."""\n'''
SIBLING = re.compile(r"^from (?:envoy|grpc|google\.api)\b[\w.]* import (\w+)", re.MULTILINE)
POOL = '''"""The descriptor pool of the generated modules, apart from the process-wide one.

Another package may bring the same messages; one pool would refuse the second.
"""

from google.protobuf import struct_pb2
from google.protobuf.descriptor_pool import DescriptorPool

POOL = DescriptorPool()
POOL.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
'''


def main() -> int:
    """Write the modules, or say with exit status 1 what is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if stale")
    check = parser.parse_args().check
    stale: list[str] = []
    for room, folders in ROOMS.items():
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / "gen"
            compile_into(fresh, room, folders)
            stale += replace(fresh, room, check)
    stale += upstream.refresh(check)
    if check and stale:
        sys.stderr.write("\n  ".join(["stale, run `make generate`:", *stale]) + "\n")
    return int(check and bool(stale))


def compile_into(target: Path, room: str, folders: tuple[str, ...]) -> None:
    """Compile the protos of `folders` and lay the modules flat into `target`."""
    with tempfile.TemporaryDirectory() as folder:
        found = (path for name in folders for path in (HERE / name).rglob("*.proto"))
        sources = sorted(str(path.relative_to(HERE)) for path in found)
        well_known = str(files("grpc_tools") / "_proto")
        arguments = [f"-I{HERE}", f"-I{well_known}", f"--python_out={folder}"]
        if protoc.main(["protoc", *arguments, f"--pyi_out={folder}", *sources]) != 0:
            raise SystemExit("protoc failed")
        target.mkdir()
        for path in sorted(Path(folder).rglob("*_pb2.py*")):
            (target / path.name).write_text(at_home(path.read_text(), room))
    (target / "__init__.py").write_text(INIT)
    (target / "pool.py").write_text(POOL)


def at_home(code: str, room: str) -> str:
    """The generated `code` with our own pool and our own siblings instead of top-level packages."""
    code = SIBLING.sub(rf"from epp.{room}.gen import \1", code)
    code = code.replace("_descriptor_pool.Default()", "_POOL")
    return code.replace(
        "from google.protobuf import descriptor_pool as _descriptor_pool\n",
        f"from epp.{room}.gen.pool import POOL as _POOL\n",
    )


def replace(fresh: Path, room: str, check: bool) -> list[str]:
    """Bring a room's modules to those of `fresh` unless `check`; returns what differs."""
    out = EPP / room / "gen"
    out.mkdir(exist_ok=True)
    names = {path.name for path in fresh.iterdir()} | {path.name for path in out.glob("*.py*")}
    stale = [name for name in sorted(names) if not same(fresh / name, out / name)]
    for name in stale if not check else ():
        (out / name).unlink(missing_ok=True)
        if (fresh / name).exists():
            (out / name).write_bytes((fresh / name).read_bytes())
    return [f"epp/{room}/gen/{name}" for name in stale]


def same(one: Path, other: Path) -> bool:
    """Whether both files exist and hold the same bytes."""
    return one.exists() and other.exists() and filecmp.cmp(one, other, shallow=False)


if __name__ == "__main__":
    sys.exit(main())
