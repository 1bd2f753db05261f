"""Envoy's full descriptors, taken from the published `xds-protos` package.

`upstream.binpb` (a FileDescriptorSet of the files we cut down) is committed, so that the tests
compare without a network. The wheel is pinned by hash in `requirements/protos.txt`; it is read, not
imported: its Python package `envoy` would hide the one of the Envoy wheel.
"""

import ast
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

HERE = Path(__file__).parent
LOCK = HERE.parent / "requirements" / "protos.txt"
KEPT = HERE / "upstream.binpb"


def refresh(check: bool) -> list[str]:
    """Bring `upstream.binpb` to what the pinned package says; returns what differed.

    Without `check` an existing file is trusted, so that generating needs no network: delete it to
    take up another version.
    """
    if not check and KEPT.exists():
        return []
    fresh = descriptors().SerializeToString(deterministic=True)
    if KEPT.exists() and KEPT.read_bytes() == fresh:
        return []
    if not check:
        KEPT.write_bytes(fresh)
    return ["proto/upstream.binpb"]


def descriptors() -> FileDescriptorSet:
    """The published descriptors of every Envoy file in this folder."""
    found = FileDescriptorSet()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(download(Path(folder))) as wheel:
        for proto in sorted(HERE.glob("envoy/**/*.proto")):
            module = proto.relative_to(HERE).with_suffix("").as_posix() + "_pb2.py"
            found.file.append(descriptor_in(wheel.read(module).decode()))
    return found


def download(folder: Path) -> Path:
    """The pinned wheel, fetched by pip; raises CalledProcessError if it cannot be had."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
    subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", LOCK, "-d", folder], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def descriptor_in(code: str) -> FileDescriptorProto:
    """The serialized descriptor that a generated module registers, without running the module."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="AddSerializedFile"), args=[ast.Constant(bytes() as raw)]
            ):
                return FileDescriptorProto.FromString(raw)
    raise ValueError("no serialized descriptor in the generated module")
