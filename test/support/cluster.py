"""A cluster for tests, whichever way it came about.

`local` is a control plane and a node on this machine, `kind` is a cluster in Docker that a
kubeconfig names. Tests use what both have; what only a node of ours can do (kill a process, cut
a link, stop the API server) is behind `cluster.node` and `cluster.plane`.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from support.cluster_api import Api, ApiError, Object, until
from support.control_plane import ControlPlane, control_plane
from support.control_plane_binary import programs
from support.node_agent import NodeAgent, node_agent

ROOT = Path(__file__).resolve().parents[2]
CLUSTER_SCOPED = {"Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
CLUSTER_SCOPED |= {"GatewayClass", "PriorityClass"}


@dataclass
class Cluster:
    """An API server with nodes, reached as its administrator."""

    api: Api
    kubeconfig: Path
    own_plane: ControlPlane | None = None
    own_node: NodeAgent | None = None

    @property
    def plane(self) -> ControlPlane:
        assert self.own_plane is not None, "only the local provider can stop a control plane"
        return self.own_plane

    @property
    def node(self) -> NodeAgent:
        assert self.own_node is not None, "only the local provider can reach into a node"
        return self.own_node

    async def apply(self, documents: Iterable[Object], namespace: str = "", **params: str) -> None:
        """Apply in the order given; `namespace` goes where a document names none."""
        for document in documents:
            await self.api.apply(placed(document, namespace), **params)

    async def delete(self, documents: Iterable[Object], namespace: str = "") -> None:
        for document in documents:
            where = placed(document, namespace)
            kind = f"{where['apiVersion']}/{where['kind']}"
            metadata = where["metadata"]
            await self.api.delete(kind, metadata["name"], metadata.get("namespace", ""))

    async def open_namespace(self, name: str) -> None:
        """A namespace whose default service account is there, so that pods may be made."""
        await self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}])
        account = "default"
        await until(
            lambda: self.api.find("ServiceAccount", account, name), 30, f"no account in {name}"
        )

    async def install_definitions(self) -> None:
        """The kinds of `config/crd`, established."""
        await self.apply(render(ROOT / "config" / "crd"))
        for name in ("InferencePool", "InferenceObjective", "InferenceModelRewrite"):
            await until(lambda name=name: self._served(name), 30, f"{name} is not served")

    async def _served(self, kind: str) -> bool:
        try:
            await self.api.list(kind)
        except ApiError:
            return False
        return True

    async def pods(self, namespace: str, app: str) -> list[Object]:
        """Pods labelled `app=<app>` that are not being deleted."""
        found = await self.api.list("Pod", namespace, labels={"app": app})
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    async def ready(self, namespace: str, app: str) -> list[Object]:
        return [pod for pod in await self.pods(namespace, app) if is_ready(pod)]

    async def until_ready(self, namespace: str, app: str, count: int, seconds: float) -> None:
        """Exactly so many ready pods of an app, and no more pods that are not wanted."""

        async def enough() -> bool:
            return len(await self.ready(namespace, app)) == count

        await until(enough, seconds, f"not {count} ready pods of {app}")

    async def until_ready_pod(self, namespace: str, name: str, seconds: float) -> None:
        async def ready() -> bool:
            pod = await self.api.find("Pod", name, namespace)
            return pod is not None and is_ready(pod)

        await until(ready, seconds, f"pod {name} is not ready")

    async def until_available(self, namespace: str, name: str, seconds: float) -> None:
        """The Deployment has rolled out whole."""

        async def whole() -> bool:
            found = await self.api.get("Deployment", name, namespace)
            return rolled_out(found)

        try:
            await until(whole, seconds, f"deployment {name} did not roll out")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.tell(namespace)}") from error

    async def until_updated(self, namespace: str, name: str, seconds: float) -> None:
        """Every pod of the Deployment is of its newest form, ready or not."""

        async def updated() -> bool:
            found = await self.api.get("Deployment", name, namespace)
            status, wanted = found["status"], found["spec"]["replicas"]
            seen = status["observedGeneration"] >= found["metadata"]["generation"]
            counts = (status.get("replicas", 0), status.get("updatedReplicas", 0))
            return seen and counts == (wanted, wanted)

        await until(updated, seconds, f"deployment {name} keeps old pods")

    async def tell(self, namespace: str) -> str:
        """Every pod of the namespace with its state and the end of its log."""
        told = []
        for pod in await self.api.list("Pod", namespace):
            name = pod["metadata"]["name"]
            states = [each["state"] for each in pod["status"].get("containerStatuses", [])]
            told.append(f"{name}: {pod['status'].get('phase')} {states}")
            told.append(await self.log(namespace, name, lines=15))
        return "\n".join(told)

    async def log(self, namespace: str, pod: str, *, lines: int = 2000) -> str:
        path = await self.api.path("Pod", namespace, pod)
        try:
            return await self.api.request("GET", f"{path}/log", params={"tailLines": str(lines)})
        except ApiError as error:
            return str(error)

    async def run(
        self, namespace: str, pod: str, argv: Sequence[str], *, container: str = ""
    ) -> tuple[int, str, str]:
        """Run a command in a pod: exit code, standard output, standard error."""
        path = await self.api.path("Pod", namespace, pod)
        query = [("command", each) for each in argv]
        query += [("stdout", "true"), ("stderr", "true")]
        query += [("container", container)] if container else []
        return await self.api.execute(f"{path}/exec", query)

    async def address(self, namespace: str, app: str) -> str:
        """Where tests reach the one ready pod of an app."""
        (pod,) = await self.ready(namespace, app)
        return str(pod["status"]["podIP"])


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def rolled_out(deployment: Object) -> bool:
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    counts = (status.get(name, 0) for name in ("replicas", "updatedReplicas", "readyReplicas"))
    return seen and all(count == wanted for count in counts)


def placed(document: Object, namespace: str) -> Object:
    """The document in a namespace, unless it names one or its kind has none."""
    if not namespace or document["kind"] in CLUSTER_SCOPED:
        return document
    metadata = {"namespace": namespace, **document["metadata"]}
    return {**document, "metadata": metadata}


def moved(found: Iterable[Object], namespace: str) -> list[Object]:
    """Rendered documents as if their kustomization had named this namespace."""
    return [moved_one(each, namespace) for each in found]


def moved_one(document: Object, namespace: str) -> Object:
    scoped = document["kind"] in CLUSTER_SCOPED
    metadata = {**document["metadata"], **({} if scoped else {"namespace": namespace})}
    if document["kind"] == "ClusterRoleBinding":
        # One for each namespace, or the second would take the first one's subjects away.
        metadata["name"] = f"{metadata['name']}-{namespace}"
    result = {**document, "metadata": metadata}
    if "subjects" in document:
        result["subjects"] = [{**each, "namespace": namespace} for each in document["subjects"]]
    return result


def documents(text: str) -> list[Object]:
    return [each for each in yaml.safe_load_all(text) if each]


def manifest(path: Path, **values: str) -> list[Object]:
    """The documents of a file, with `$NAME` replaced by each value."""
    text = path.read_text()
    for name, value in values.items():
        text = text.replace(f"${name}", value)
    return documents(text)


def render(folder: Path) -> list[Object]:
    """What `kubectl kustomize` makes of a folder."""
    program = programs()["kustomize"]
    done = subprocess.run([*program, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"kustomize {folder}: {done.stderr}"
    return documents(done.stdout)


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    """The cluster that `test/e2e/run.py` has chosen."""
    provider = os.environ.get("EPP_E2E_PROVIDER")
    assert provider, "no cluster: run these tests by `make test-e2e`"
    if provider == "kind":
        path = Path(os.environ.get("KUBECONFIG", Path.home() / ".kube" / "config"))
        async with Api.open(path) as api:
            yield Cluster(api, path)
        return
    folder = Path(os.environ["EPP_E2E_STATE"]) / "cluster"
    async with (
        control_plane(folder) as plane,
        node_agent(plane) as node,
        Api.open(plane.kubeconfig) as api,
    ):
        yield Cluster(api, plane.kubeconfig, plane, node)


async def settled(*tasks: "asyncio.Task[object]") -> None:
    """Cancel and wait."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
