"""Compile the protos of this folder into `epp/wire/gen`; `--check` fails if that is stale.

The generated modules lie flat and register in a descriptor pool of their own, so that neither the
`envoy` package of the Envoy wheel nor anybody else's Envoy or health descriptors can collide with
them. `--check` also holds `upstream.binpb` against the published package it was taken from.
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
OUT = HERE.parent / "epp" / "wire" / "gen"
INIT = '''"""Compiled from `proto/` by `make generate`; nothing here is written by hand."""\n'''
SIBLING = re.compile(r"^from (?:envoy|grpc)\.[\w.]+ import (\w+)", re.MULTILINE)
POOL = '''"""The descriptor pool of the generated modules, apart from the process-wide one.

Another package may bring the same Envoy or health messages; one pool would refuse the second.
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
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "gen"
        compile_into(fresh)
        stale = replace(fresh, check)
    stale += upstream.refresh(check)
    if check and stale:
        sys.stderr.write("\n  ".join(["stale, run `make generate`:", *stale]) + "\n")
    return int(check and bool(stale))


def compile_into(target: Path) -> None:
    """Compile every proto and lay the modules flat into `target`."""
    with tempfile.TemporaryDirectory() as folder:
        sources = sorted(str(path.relative_to(HERE)) for path in HERE.rglob("*.proto"))
        well_known = str(files("grpc_tools") / "_proto")
        arguments = [f"-I{HERE}", f"-I{well_known}", f"--python_out={folder}"]
        if protoc.main(["protoc", *arguments, f"--pyi_out={folder}", *sources]) != 0:
            raise SystemExit("protoc failed")
        target.mkdir()
        for path in sorted(Path(folder).rglob("*_pb2.py*")):
            (target / path.name).write_text(at_home(path.read_text()))
    (target / "__init__.py").write_text(INIT)
    (target / "pool.py").write_text(POOL)


def at_home(code: str) -> str:
    """The generated `code` with our own pool and our own siblings instead of top-level packages."""
    code = SIBLING.sub(r"from epp.wire.gen import \1", code)
    code = code.replace("_descriptor_pool.Default()", "_POOL")
    return code.replace(
        "from google.protobuf import descriptor_pool as _descriptor_pool\n",
        "from epp.wire.gen.pool import POOL as _POOL\n",
    )


def replace(fresh: Path, check: bool) -> list[str]:
    """Bring `OUT` to the state of `fresh` unless `check`; returns the names that differ."""
    OUT.mkdir(exist_ok=True)
    names = {path.name for path in fresh.iterdir()} | {path.name for path in OUT.glob("*.py*")}
    stale = [name for name in sorted(names) if not same(fresh / name, OUT / name)]
    for name in stale if not check else ():
        (OUT / name).unlink(missing_ok=True)
        if (fresh / name).exists():
            (OUT / name).write_bytes((fresh / name).read_bytes())
    return [f"epp/wire/gen/{name}" for name in stale]


def same(one: Path, other: Path) -> bool:
    """Whether both files exist and hold the same bytes."""
    return one.exists() and other.exists() and filecmp.cmp(one, other, shallow=False)


if __name__ == "__main__":
    sys.exit(main())
