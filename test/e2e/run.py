"""`make test-e2e`: choose a cluster, then run the tests of this folder against it.

    python test/e2e/run.py [arguments of pytest]

kind where Docker runs, or `E2E_USE_KIND=true`; everywhere else a control plane and a node on this
machine, in namespaces of their own that end with this command, however it ends. Never a silent
pass: with no cluster and no way to make one this says what to install and exits with 1.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from support.control_plane_binary import CannotBuild, definitions_of_gateways, programs  # noqa: E402

CLUSTER = "inference-e2e"
TOOLS = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "setpriv": "util-linux",
    "curl": "curl",
}
# Every address of a control plane, a node and a name server, on one bridge that leads nowhere.
# Its link address is its own: else it is that of some port, and changes when that pod goes.
ENTER = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$EPP_E2E_STATE"
ip link set lo up
ip link add epp0 address 02:00:0a:f4:00:01 type bridge
ip address add 10.244.0.1/16 dev epp0
ip address add 10.244.0.2/16 dev epp0
ip address add 10.244.0.3/16 dev epp0
ip link set epp0 up
exec "$@"
"""


def main(arguments: list[str]) -> int:
    manifest = Path(os.environ.setdefault("MANIFEST_PATH", default_manifest()))
    if not manifest.is_file():
        return refuse(f"MANIFEST_PATH={manifest}: no such file; name a model server manifest")
    loops = [
        "asyncio_default_fixture_loop_scope=session",
        "asyncio_default_test_loop_scope=session",
    ]
    options = [word for each in loops for word in ("-o", each)]
    pytest = [sys.executable, "-m", "pytest", *options, *(arguments or [str(HERE)])]
    wanted = os.environ.get("E2E_USE_KIND", "")
    if wanted == "true" or (wanted != "false" and kind_works()):
        return kind(pytest)
    return local(pytest)


def default_manifest() -> str:
    relative = os.environ.get("E2E_MANIFEST_PATH", "config/manifests/vllm/sim-deployment.yaml")
    return str(ROOT / relative)


def kind_works() -> bool:
    """Docker answers, and `kind` is installed."""
    if not (shutil.which("docker") and shutil.which("kind")):
        return False
    asked = subprocess.run(["docker", "info"], capture_output=True, check=False)
    return asked.returncode == 0


def kind(command: list[str]) -> int:
    """Run the command against a cluster in Docker, with images of this tree."""
    if not kind_works():
        return refuse("E2E_USE_KIND=true needs a Docker that runs, and `kind` on the path")
    picker = os.environ.setdefault("E2E_IMAGE", "localhost/epp:dev")
    images = {"epp": picker, "vllm-sim": "localhost/vllm-sim:dev"}
    found = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=True)
    if CLUSTER not in found.stdout.split():
        subprocess.run(["kind", "create", "cluster", "--name", CLUSTER], check=True)
    for target, image in images.items():
        build = ["docker", "build", "--target", target, "--tag", image, str(ROOT)]
        subprocess.run(build, check=True)
        subprocess.run(["kind", "load", "docker-image", image, "--name", CLUSTER], check=True)
    os.environ["EPP_E2E_PROVIDER"] = "kind"
    return subprocess.call(command, cwd=ROOT)


def local(command: list[str]) -> int:
    """Run the command where a cluster of our own may be made."""
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if missing:
        return refuse(f"install {', '.join(missing)}: pods here are namespaces of this machine")
    try:
        programs()
        definitions_of_gateways()
    except CannotBuild as error:
        return refuse(str(error))
    with tempfile.TemporaryDirectory(prefix="epp-e2e-") as state:
        os.environ |= {"EPP_E2E_PROVIDER": "local", "EPP_E2E_STATE": state}
        script = ["sh", "-c", ENTER, "enter", *command]
        return subprocess.call([*namespaces(), *script], cwd=ROOT)


def namespaces() -> list[str]:
    """What opens network, mount and process namespaces, as root or as anybody."""
    spaces = ["--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
    mapped = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *mapped, *spaces]


def refuse(why: str) -> int:
    print(f"e2e tests cannot run: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
