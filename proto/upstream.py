"""The full descriptors of what we cut down, taken from published packages.

`upstream.binpb` (a FileDescriptorSet of the files we cut down) is committed, so that the tests
compare without a network. The wheels are pinned by hash in `requirements/protos.txt`; they are
read, not imported: the Python package `envoy` of one would hide that of the Envoy wheel.
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
MODULES = {
    **{
        path.relative_to(HERE).as_posix(): path.relative_to(HERE).with_suffix("").as_posix()
        for path in sorted(HERE.glob("envoy/**/*.proto"))
    },
    "google/api/httpbody.proto": "google/api/httpbody",
    "vllm/grpc/vllm_engine.proto": "smg_grpc_proto/generated/vllm_engine",
}
"""Our files, and the modules of published packages that carry the same file whole."""


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
    """The published descriptors of our files, each under our file's name."""
    found = FileDescriptorSet()
    with tempfile.TemporaryDirectory() as folder:
        wheels = [zipfile.ZipFile(path) for path in download(Path(folder))]
        for ours, module in MODULES.items():
            whole = descriptor_in(source_in(wheels, f"{module}_pb2.py"))
            whole.name = ours
            found.file.append(whole)
        for wheel in wheels:
            wheel.close()
    return found


def download(folder: Path) -> list[Path]:
    """The pinned wheels, fetched by pip; raises CalledProcessError if one cannot be had."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
    subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", LOCK, "-d", folder], check=True)
    return sorted(folder.glob("*.whl"))


def source_in(wheels: list[zipfile.ZipFile], name: str) -> str:
    """The text of a module, from whichever wheel has it. Raises KeyError if none does."""
    for wheel in wheels:
        if name in wheel.namelist():
            return wheel.read(name).decode()
    raise KeyError(name)


def descriptor_in(code: str) -> FileDescriptorProto:
    """The serialized descriptor that a generated module registers, without running the module."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="AddSerializedFile"), args=[ast.Constant(bytes() as raw)]
            ):
                return FileDescriptorProto.FromString(raw)
    raise ValueError("no serialized descriptor in the generated module")
