"""A real Kubernetes control plane for tests: etcd, API server, controllers, scheduler.

It listens inside the network namespace that `test/e2e/run.py` makes, so fixed ports are free
and nothing outside can reach it. RBAC, admission and service account tokens are on. Each part
is a process of its own that a test may stop and start again.

    async with control_plane(folder) as plane:
        plane.kubeconfig            # path of an administrator's kubeconfig
        await plane.stop("kube-apiserver")
        await plane.start("kube-apiserver")
"""

import asyncio
import signal
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import yaml
from support.cluster_pki import Authority
from support.control_plane_binary import PARTS, programs

NODE_IP = "10.244.0.1"
API_IP = "10.244.0.2"
API_PORT = 6443
DNS_IP = "10.244.0.3"
SERVICE_RANGE = "10.96.0.0/16"
ISSUER = "https://kubernetes.default.svc.cluster.local"
API_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
API_HOSTS = (*API_NAMES, "kubernetes.default.svc.cluster.local", API_IP, "127.0.0.1", "10.96.0.1")
START_SECONDS = 60.0
STOP_SECONDS = 10.0


class ControlPlaneFailed(RuntimeError):
    """A part did not come up; the end of its log is in the message."""


class ControlPlane:
    """The four parts, each with a log in `folder`."""

    def __init__(self, folder: Path, commands: Mapping[str, Sequence[str]]) -> None:
        self.folder = folder
        self._commands = commands
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self.authority = Authority(folder / "pki")
        self._issue()
        self.kubeconfig = self.kubeconfig_for("admin", "admin", ("system:masters",))
        self.kubeconfig_for("controllers", "system:kube-controller-manager")
        self.kubeconfig_for("scheduler", "system:kube-scheduler")

    def _issue(self) -> None:
        self.authority.issue("apiserver", "kube-apiserver", hosts=API_HOSTS)
        self.authority.issue("kubelet-client", "kube-apiserver-kubelet", ("system:masters",))
        self.authority.issue("kubelet", "system:node:local", ("system:nodes",), (NODE_IP,))
        self.authority.key_pair("service-accounts")

    def kubeconfig_for(self, stem: str, user: str, groups: Sequence[str] = ()) -> Path:
        """Path of a kubeconfig whose certificate says `user` in `groups`."""
        certificate, key = self.authority.issue(stem, user, groups)
        text = yaml.safe_dump(kubeconfig(self.authority.certificate, certificate, key))
        path = self.folder / f"{stem}.kubeconfig"
        path.write_text(text)
        return path

    async def start(self, *parts: str) -> None:
        """Start these parts, or all; returns when each answers. Raises `ControlPlaneFailed`."""
        for part in parts or PARTS:
            with (self.folder / f"{part}.log").open("ab") as log:
                self._processes[part] = await asyncio.create_subprocess_exec(
                    *self._commands[part],
                    *flags_of(part, self.folder),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            if part == "kube-apiserver":
                await self._until_ready()

    async def stop(self, *parts: str, number: int = signal.SIGKILL) -> None:
        """End these parts, or all, in the reverse of the order they start in."""
        for part in reversed(parts or PARTS):
            process = self._processes.pop(part, None)
            if process is not None and process.returncode is None:
                process.send_signal(number)
                await asyncio.wait_for(process.wait(), STOP_SECONDS)

    def log(self, part: str) -> str:
        return (self.folder / f"{part}.log").read_text(errors="replace")

    async def _until_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        pki = self.folder / "pki"
        context = ssl.create_default_context(cafile=pki / "ca.crt")
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        async with aiohttp.ClientSession(base_url=f"https://{API_IP}:{API_PORT}") as http:
            while not await answers(http, context):
                if self._processes["kube-apiserver"].returncode is not None:
                    raise ControlPlaneFailed(self.log("kube-apiserver")[-4000:])
                if time.monotonic() > end:
                    raise ControlPlaneFailed(self.log("kube-apiserver")[-4000:])
                await asyncio.sleep(0.1)


async def answers(http: aiohttp.ClientSession, context: ssl.SSLContext) -> bool:
    try:
        async with http.get("/readyz", ssl=context) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


def kubeconfig(authority: Path, certificate: Path, key: Path) -> dict[str, object]:
    cluster = {
        "server": f"https://{API_IP}:{API_PORT}",
        "certificate-authority": str(authority),
    }
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "local", "user": user}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "local"}}],
        "current-context": "local",
    }


def flags_of(part: str, folder: Path) -> list[str]:
    """The command line of a part, without its program."""
    pki = folder / "pki"
    return {
        "etcd": etcd_flags,
        "kube-apiserver": apiserver_flags,
        "kube-controller-manager": controller_flags,
        "kube-scheduler": scheduler_flags,
    }[part](folder, pki)


def etcd_flags(folder: Path, _pki: Path) -> list[str]:
    return [
        f"--data-dir={folder / 'etcd'}",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        # The data lives as long as the tests: no need to wait for a disk.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver_flags(_folder: Path, pki: Path) -> list[str]:
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--secure-port={API_PORT}",
        f"--advertise-address={API_IP}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={pki / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--shutdown-delay-duration=0s",
        "--profiling=false",
    ]


def controller_flags(folder: Path, pki: Path) -> list[str]:
    return [
        f"--kubeconfig={folder / 'controllers.kubeconfig'}",
        f"--service-account-private-key-file={pki / 'service-accounts.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        "--use-service-account-credentials=true",
        # A new node takes pods after one such period.
        "--node-monitor-period=1s",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    ]


def scheduler_flags(folder: Path, _pki: Path) -> list[str]:
    return [
        f"--kubeconfig={folder / 'scheduler.kubeconfig'}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ]


@asynccontextmanager
async def control_plane(folder: Path) -> AsyncIterator[ControlPlane]:
    """A control plane that runs until the block ends."""
    plane = ControlPlane(folder, programs())
    try:
        await plane.start()
        yield plane
    finally:
        await plane.stop()
