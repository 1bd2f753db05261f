"""The programs of a control plane: found by `KUBEBUILDER_ASSETS`, or compiled once and kept.

`python test/support/control_plane_binary.py` builds it, so that a build with a network can
happen before the tests run without one.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from support.go_toolchain import NoGo, go_environment, go_program
from support.kept import kept

SOURCE = Path(__file__).parent / "go" / "control_plane"
PARTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


class CannotBuild(RuntimeError):
    """No control plane, and no way to make one; the message says what to install."""


Programs = Mapping[str, list[str]]


def programs() -> Programs:
    """The start of the command line of each part. Builds for minutes if it must."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        return found_in(Path(assets))
    built = cached()
    if not built.exists():
        build(built)
    return {part: [str(built), part] for part in (*PARTS, "kustomize")}


def found_in(folder: Path) -> Programs:
    """Programs in a folder; all four, since a controller manager makes pods of Deployments."""
    kustomize = kustomize_beside(folder)
    missing = [part for part in PARTS if not (folder / part).is_file()]
    if missing:
        raise CannotBuild(
            f"KUBEBUILDER_ASSETS={folder} lacks {', '.join(missing)}: put them there, or unset "
            "it to have all four compiled with Go"
        )
    return {**{part: [str(folder / part)] for part in PARTS}, "kustomize": kustomize}


def kustomize_beside(folder: Path) -> list[str]:
    """What renders a kustomization: `kubectl`, of the folder or of this machine."""
    kubectl = shutil.which("kubectl", path=f"{folder}:{os.environ.get('PATH', '')}")
    if kubectl is None:
        raise CannotBuild(f"KUBEBUILDER_ASSETS={folder} lacks kubectl, and it is not on the path")
    return [kubectl, "kustomize"]


def cached() -> Path:
    """Where the program built from the present sources is, or would be."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update((SOURCE / name).read_bytes())
    return kept("control-plane") / f"control-plane-{digest.hexdigest()[:16]}"


def build(target: Path) -> None:
    """Compile into `target`; raises `CannotBuild`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"compiling a control plane into {target}; minutes, once", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fresh = Path(scratch) / "control-plane"
        command = [compiler(), "build", "-trimpath", "-ldflags=-s -w", "-o", str(fresh), "."]
        done = subprocess.run(["nice", *command], cwd=SOURCE, env=go_environment())
        if done.returncode:
            raise CannotBuild(f"`go build` in {SOURCE} failed with {done.returncode}")
        fresh.replace(target)


def compiler() -> str:
    """The Go compiler. Raises `CannotBuild`."""
    try:
        return go_program()
    except NoGo as error:
        raise CannotBuild(
            f"no Kubernetes control plane here: {error}; or name a folder with etcd, "
            "kube-apiserver, kube-controller-manager and kube-scheduler in KUBEBUILDER_ASSETS, "
            "or set E2E_USE_KIND=true on a machine with Docker"
        ) from error


# Go modules that carry the definitions of kinds that gateways bring, and where in them.
GATEWAY_MODULES = {
    "sigs.k8s.io/gateway-api@v1.4.1": "config/crd/standard/*.yaml",
    "istio.io/api@v1.28.1": "kubernetes/customresourcedefinitions.gen.yaml",
}


def definitions_of_gateways() -> list[Path]:
    """Files with definitions of the Gateway API and of Istio, from the module cache or the net.

    Raises `CannotBuild` where there is no Go.
    """
    found: list[Path] = []
    for module, pattern in GATEWAY_MODULES.items():
        command = [compiler(), "mod", "download", "-json", module]
        done = subprocess.run(command, capture_output=True, text=True, env=go_environment())
        if done.returncode:
            raise CannotBuild(f"`go mod download {module}` failed: {done.stdout}{done.stderr}")
        found += sorted(Path(json.loads(done.stdout)["Dir"]).glob(pattern))
    return found


if __name__ == "__main__":
    try:
        print(programs()["kube-apiserver"][0])
        print(*definitions_of_gateways(), sep="\n")
    except CannotBuild as error:
        sys.exit(str(error))
