"""A node made of this machine: runs the pods bound to it as processes, as a kubelet would.

async with node_agent(plane) as node:
    node.pod("default", "sim-0").containers["vllm"].signal(9)
    await node.pod("default", "epp-0").network.cut(API_IP)

It is no kubelet where it would have to pretend: there are no container images (a table in
`pod_spec.py` says which program an image is here), no CNI (one bridge), no kube-proxy (a proxy
of its own copies bytes, TCP only), no cgroups (requests and limits are not enforced).
"""

import asyncio
import contextlib
import datetime as dt
import itertools
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from support.cluster_api import Api, ApiError, Object
from support.cluster_dns import serve_names
from support.control_plane import API_IP, API_PORT, DNS_IP, NODE_IP, ControlPlane
from support.kubelet_door import PORT, Door
from support.pod_runner import PodRunner
from support.service_proxy import ServiceProxy, fronts

log = logging.getLogger("node")
NODE = "local"
BEAT_SECONDS = 10.0
LEASE_SECONDS = 40
RELIST_SECONDS = 0.5
CLUSTER: Object = {"api": (API_IP, API_PORT), "dns": DNS_IP, "node": NODE_IP}


class NodeAgent:
    """Follows pods bound to the node and endpoint slices; owns one task for each pod."""

    def __init__(self, api: Api, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self._runners: dict[str, PodRunner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._numbers = itertools.count(1)
        self._slices: dict[tuple[str, str], Object] = {}
        self._services: dict[tuple[str, str], Object] = {}
        self._proxy = ServiceProxy()
        self._services_changed = asyncio.Event()

    def pod(self, namespace: str, name: str) -> PodRunner:
        """The runner of a pod that is here."""
        found = self.find(namespace, name)
        assert found is not None, f"no pod {namespace}/{name} on this node"
        return found

    def find(self, namespace: str, name: str) -> PodRunner | None:
        named = (r for r in self._runners.values() if (r.namespace, r.name) == (namespace, name))
        return next(named, None)

    async def run(self) -> None:
        """Until cancelled."""
        await self._register()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._beat())
                group.create_task(self._lead())
                group.create_task(self._follow("Pod", self._see_pod, self._keep_pods))
                group.create_task(self._follow("EndpointSlice", self._see_slice, self._keep_slices))
                group.create_task(self._follow("Service", self._see_service, self._keep_services))
        finally:
            await self._end()

    async def _register(self) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        if await self.api.find("Node", NODE) is None:
            await self.api.create(node)
        await self.api.patch("Node", NODE, "", {"status": node_status()}, of="status")

    async def _beat(self) -> None:
        """Tell the node controller that this node lives."""
        while True:
            with contextlib.suppress(ApiError, aiohttp.ClientError, TimeoutError):
                await self.api.apply(lease())
                await self.api.patch("Node", NODE, "", {"status": node_status()}, of="status")
            await asyncio.sleep(BEAT_SECONDS)

    async def _follow(self, kind: str, see, keep) -> None:
        """List and watch; lists again whenever the stream ends or the server is away."""
        fields = {"spec.nodeName": NODE} if kind == "Pod" else None
        params = {"fieldSelector": f"spec.nodeName={NODE}"} if kind == "Pod" else {}
        while True:
            try:
                page = await self.api.page(kind, fields=fields)
                for item in page["items"]:
                    see("ADDED", item)
                keep({item["metadata"]["uid"] for item in page["items"]})
                version = page["metadata"]["resourceVersion"]
                async for event in self.api.watch(kind, version, **params):
                    if event["type"] == "ERROR":
                        break
                    if event["type"] != "BOOKMARK":
                        see(event["type"], event["object"])
            except (ApiError, aiohttp.ClientError, TimeoutError, ValueError) as error:
                log.info("%s: %s", kind, error)
            await asyncio.sleep(RELIST_SECONDS)

    def _see_pod(self, kind: str, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        runner = self._runners.get(uid)
        if kind == "DELETED":
            if runner is not None:
                runner.vanish()
        elif runner is not None:
            runner.see(pod)
        elif pod["status"].get("phase") not in ("Succeeded", "Failed"):
            self._run(uid, pod)

    def _keep_pods(self, uids: set[str]) -> None:
        for uid, runner in self._runners.items():
            if uid not in uids:
                runner.vanish()

    def _run(self, uid: str, pod: Object) -> None:
        number = next(self._numbers)
        address = f"10.244.{1 + number // 250}.{1 + number % 250}"
        runner = PodRunner(self.api, pod, self.folder / uid, (address, number, CLUSTER))
        self._runners[uid] = runner
        self._tasks[uid] = task = asyncio.create_task(runner.run(), name=f"pod {runner.name}")
        task.add_done_callback(lambda done: self._ended(uid, done))
        runner.see(pod)

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("pod %s failed here", self._runners[uid].name, exc_info=task.exception())
        self._runners.pop(uid, None)
        self._tasks.pop(uid, None)

    async def _end(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._proxy.close()

    async def _lead(self) -> None:
        """Addresses of services lead to whatever is ready now."""
        while True:
            await self._services_changed.wait()
            self._services_changed.clear()
            held = list(self._services.values()), list(self._slices.values())
            await self._proxy.set(fronts(*held))

    def _see_slice(self, kind: str, item: Object) -> None:
        keep_latest(self._slices, kind, item)
        self._services_changed.set()

    def _keep_slices(self, uids: set[str]) -> None:
        forget_others(self._slices, uids)
        self._services_changed.set()

    def _see_service(self, kind: str, item: Object) -> None:
        keep_latest(self._services, kind, item)
        self._services_changed.set()

    def _keep_services(self, uids: set[str]) -> None:
        forget_others(self._services, uids)
        self._services_changed.set()

    def addresses(self, name: str, namespace: str) -> Sequence[str] | None:
        """What a service's name means: its address, or for a headless one those of its ready
        endpoints; None where there is no such service.
        """
        service = self._services.get((namespace, name))
        if service is None:
            return None
        if service["spec"].get("clusterIP", "None") != "None":
            return [service["spec"]["clusterIP"]]
        slices = [
            each
            for (space, _), each in self._slices.items()
            if space == namespace
            and each["metadata"].get("labels", {}).get("kubernetes.io/service-name") == name
        ]
        ready = [
            endpoint["addresses"]
            for each in slices
            for endpoint in each.get("endpoints") or ()
            if endpoint.get("conditions", {}).get("ready", True)
        ]
        return sorted(address for addresses in ready for address in addresses)


def keep_latest(held: dict[tuple[str, str], Object], kind: str, item: Object) -> None:
    key = (item["metadata"]["namespace"], item["metadata"]["name"])
    if kind == "DELETED":
        held.pop(key, None)
    else:
        held[key] = item


def forget_others(held: dict[tuple[str, str], Object], uids: set[str]) -> None:
    for key in [key for key, item in held.items() if item["metadata"]["uid"] not in uids]:
        del held[key]


def node_status() -> Object:
    when = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    room = {"cpu": "64", "memory": "256Gi", "pods": "500", "ephemeral-storage": "100Gi"}
    room["nvidia.com/gpu"] = "16"
    ready = {"type": "Ready", "status": "True", "reason": "AgentReady"}
    times = {"lastHeartbeatTime": when, "lastTransitionTime": when}
    return {
        "capacity": room,
        "allocatable": room,
        "addresses": [{"type": "InternalIP", "address": NODE_IP}],
        "conditions": [{**ready, **times}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": PORT}},
    }


def lease() -> Object:
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": NODE, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NODE, "namespace": "kube-node-lease"},
        "spec": spec,
    }


@asynccontextmanager
async def node_agent(plane: ControlPlane) -> AsyncIterator[NodeAgent]:
    """A node that lives until the block ends; its pods end with it."""
    async with Api.open(plane.kubeconfig) as api:
        node = NodeAgent(api, plane.folder / "pods")
        door = Door(node.find)
        pki = plane.folder / "pki"
        await door.open(NODE_IP, pki / "kubelet.crt", pki / "kubelet.key")
        names = await serve_names(node.addresses, DNS_IP)
        running = asyncio.create_task(node.run())
        try:
            yield node
        finally:
            names.close()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await door.close()
