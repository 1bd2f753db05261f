"""One pod's life on this machine, from its first container to its end.

The node agent makes one `PodRunner` for each pod bound to the node, hands it every new version
of the pod's object, and owns the task that runs it.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import aiohttp
from support.cluster_api import STRATEGIC, Api, ApiError
from support.pod_probes import port_of, probe, watch_probe
from support.pod_sandbox import (
    DEFAULT_PATH,
    WORKDIR,
    Container,
    Limits,
    Mount,
    Network,
    SandboxFailed,
    open_network,
    start_container,
)
from support.pod_spec import (
    BIN,
    NotHere,
    Object,
    Sources,
    UnknownImage,
    command_line,
    entry_point,
    environment,
    references,
    token_lifetime,
    volume_files,
)
from support.pod_status import Conditions, ContainerState, now, phase

log = logging.getLogger("node")
BACK_OFF_SECONDS = (0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
RETRY_SECONDS = 1.0
REFRESH_SECONDS = 5.0


class PodRunner:
    """Runs one pod and keeps its status true. `pod` is the newest object seen."""

    def __init__(self, api: Api, pod: Object, folder: Path, place: tuple[str, int, Object]) -> None:
        self.api = api
        self.pod = pod
        self.folder = folder
        self.address, self._number, self._cluster = place
        self.network: Network | None = None
        self.containers: dict[str, Container] = {}
        spec = pod["spec"]
        self.init_states = states_of(spec.get("initContainers", []))
        self.states = states_of(spec["containers"])
        self._conditions = Conditions()
        self._changed = asyncio.Event()
        self._doomed = asyncio.Event()
        self._gone = asyncio.Event()
        self._started_at = now()
        self._initialized = not self.init_states
        self._probes: set[asyncio.Task[None]] = set()
        self._launches: set[asyncio.Task[Container]] = set()

    @property
    def name(self) -> str:
        return self.pod["metadata"]["name"]

    @property
    def namespace(self) -> str:
        return self.pod["metadata"]["namespace"]

    @property
    def network_closed(self) -> bool:
        """True when nothing of the pod runs any more."""
        return self.network is not None and self.network.holder.returncode is not None

    def log_path(self, container: str, *, previous: bool = False) -> Path:
        restarts = {**self.init_states, **self.states}[container].restarts
        return self.folder / "logs" / f"{container}-{restarts - previous}.log"

    def see(self, pod: Object) -> None:
        """A newer version of the object."""
        self.pod = pod
        if "deletionTimestamp" in pod["metadata"]:
            self._doomed.set()
        if is_ready(pod["status"]) != is_ready(self.status()):
            # Controllers call pods of a node unready that has not been heard of for a while.
            self._touch()

    def vanish(self) -> None:
        """The object is gone: end everything now."""
        self._gone.set()
        self._doomed.set()

    async def run(self) -> None:
        """Until the pod has ended and its object is deleted, or the task is cancelled."""
        (self.folder / "logs").mkdir(parents=True)
        writer = asyncio.create_task(self._write_status())
        living = asyncio.create_task(self._live())
        living.add_done_callback(self._lived)
        try:
            await self._doomed.wait()
            living.cancel()
            await self._terminate()
            await ended(living)
            writer.cancel()
            await ended(writer)
            await self._remove()
        finally:
            for task in (living, writer, *self._probes):
                task.cancel()
                await ended(task)
            await self._clean()

    def _lived(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("pod %s: this agent failed", self.name, exc_info=task.exception())

    async def _live(self) -> None:
        """Start the pod, then keep its containers running by its restart policy."""
        await self._set_up()
        for container in self.pod["spec"].get("initContainers", []):
            await self._run_init(container)
        self._initialized = True
        self._touch()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._refresh_volumes())
            for container in self.pod["spec"]["containers"]:
                group.create_task(self._keep(container, self.states[container["name"]]))

    async def _set_up(self) -> None:
        """Network and volumes, as soon as all that they refer to exists."""
        said = ""
        while True:
            try:
                if self.network is None:
                    self.network = await open_network(self.address, self._number)
                self._touch()
                return await self._write_volumes()
            except (NotHere, SandboxFailed, ApiError, aiohttp.ClientError) as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("pod %s: %s", self.name, said)
            await asyncio.sleep(RETRY_SECONDS)

    async def _write_volumes(self) -> None:
        sources = await self._sources()
        token = await self._token()
        self._write_names()
        for volume in self.pod["spec"].get("volumes", []):
            folder = self.folder / "volumes" / volume["name"]
            folder.mkdir(parents=True, exist_ok=True)
            if "emptyDir" in volume:
                folder.chmod(0o777)
            for path, content in volume_files(volume, self.pod, sources, token).items():
                put_file(folder / path, content)

    async def _refresh_volumes(self) -> None:
        """Changed config maps reach the files, tokens are renewed, as a kubelet sees to."""
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            with contextlib.suppress(NotHere, ApiError, aiohttp.ClientError, TimeoutError):
                await self._write_volumes()

    def _write_names(self) -> None:
        search = f"{self.namespace}.svc.cluster.local svc.cluster.local cluster.local"
        resolver = f"search {search}\nnameserver {self._cluster['dns']}\noptions ndots:5\n"
        put_file(self.folder / "resolv.conf", resolver.encode())
        hosts = f"127.0.0.1 localhost\n::1 localhost\n{self.address} {self.name}\n"
        put_file(self.folder / "hosts", hosts.encode())

    async def _sources(self) -> Sources:
        objects = {}
        for kind, name in references(self.pod):
            found = await self.api.find(kind, name, self.namespace)
            if found is not None:
                objects[kind, name] = found
        return Sources(objects)

    async def _token(self) -> str:
        """A token bound to the pod, from the TokenRequest API."""
        if not any("projected" in each for each in self.pod["spec"].get("volumes", [])):
            return ""
        seconds, audience = token_lifetime(self.pod)
        metadata = self.pod["metadata"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": self.name, "uid": metadata["uid"]}
        wanted: Object = {"expirationSeconds": seconds, "boundObjectRef": bound}
        if audience:
            wanted["audiences"] = [audience]
        account = self.pod["spec"].get("serviceAccountName", "default")
        path = await self.api.path("ServiceAccount", self.namespace, account)
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": wanted}
        answer = await self.api.request("POST", f"{path}/token", json=body)
        return answer["status"]["token"]

    async def _run_init(self, container: Object) -> None:
        state = self.init_states[container["name"]]
        await self._keep(container, state, policy="OnFailure")
        state.ready = True

    async def _keep(self, spec: Object, state: ContainerState, policy: str = "") -> None:
        """Run the container again and again, as the restart policy says."""
        policy = policy or self.pod["spec"].get("restartPolicy", "Always")
        while True:
            code = await self._run_once(spec, state)
            if policy == "Never" or (policy == "OnFailure" and code == 0):
                return
            pause = BACK_OFF_SECONDS[min(state.restarts, len(BACK_OFF_SECONDS) - 1)]
            if pause:
                state.wait("CrashLoopBackOff", f"back-off {pause:g}s restarting {state.name}")
                self._touch()
                await asyncio.sleep(pause)
            else:
                state.last = state.state
            state.restarts += 1

    async def _run_once(self, spec: Object, state: ContainerState) -> int:
        container = await self._start(spec, state)
        state.run()
        probes = asyncio.create_task(self._probe(spec, state, container))
        self._probes.add(probes)
        probes.add_done_callback(self._probes.discard)
        state.started = "startupProbe" not in spec
        state.ready = state.started and "readinessProbe" not in spec
        self._touch()
        try:
            code = await asyncio.shield(container.process.wait())
        finally:
            # A pod that is ending keeps its probes: readiness is reported until the end.
            if not self._doomed.is_set():
                probes.cancel()
                await ended(probes)
        state.end(code if code >= 0 else 128 - code)
        self._touch()
        return state.exit_code or 0

    async def _start(self, spec: Object, state: ContainerState) -> Container:
        """Start it as soon as it can be; says in the status why it cannot."""
        while True:
            try:
                entry_point(spec["image"])
                sources = await self._sources()
                env = self._environment(spec, sources)
                launch = asyncio.create_task(self._launch(spec, state, env))
                self._launches.add(launch)
                launch.add_done_callback(self._launches.discard)
                # A pod that is deleted just now must know what it has to end.
                return await asyncio.shield(launch)
            except UnknownImage as error:
                state.wait("ErrImagePull", str(error))
            except NotHere as error:
                state.wait("CreateContainerConfigError", str(error))
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                log.warning("pod %s: %s", self.name, error)
            self._touch()
            await asyncio.sleep(RETRY_SECONDS)

    async def _launch(self, spec: Object, state: ContainerState, env: dict[str, str]) -> Container:
        assert self.network is not None
        folder = self.folder / "containers" / f"{state.name}-{state.restarts}"
        self.containers[state.name] = container = await start_container(
            self.network,
            folder,
            command_line(spec, env),
            env=env,
            mounts=self._mounts(spec),
            limits=limits_of(self.pod["spec"].get("securityContext", {}), spec),
            log=self.log_path(state.name),
            hostname=self.name,
            workdir=spec.get("workingDir", WORKDIR),
        )
        return container

    def _environment(self, spec: Object, sources: Sources) -> dict[str, str]:
        host, port = self._cluster["api"]
        # The object may be older than the address: the downward API reads both.
        shown = {**self.pod, "status": {**self.pod["status"], **self._addresses()}}
        return {
            "PATH": f"{BIN}:{DEFAULT_PATH}",
            "HOSTNAME": self.name,
            "PYTHONDONTWRITEBYTECODE": "1",
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": str(port),
            **environment(shown, spec, sources),
        }

    def _mounts(self, spec: Object) -> list[Mount]:
        folder = self.folder / "volumes"
        own = {each["name"]: each for each in self.pod["spec"].get("volumes", [])}
        mounts = [
            Mount(self.folder / "resolv.conf", "/etc/resolv.conf"),
            Mount(self.folder / "hosts", "/etc/hosts"),
        ]
        for each in spec.get("volumeMounts", []):
            source = folder / each["name"] / each.get("subPath", "")
            target = each["mountPath"].replace("/var/run/", "/run/", 1)
            fixed = "emptyDir" not in own[each["name"]]
            mounts.append(Mount(source, target, each.get("readOnly", False) or fixed))
        return mounts

    async def _probe(self, spec: Object, state: ContainerState, container: Container) -> None:
        """Startup first; then liveness and readiness side by side."""

        async def once(which: str) -> str:
            return await probe(spec[which], spec, self.address, executor(container))

        if "startupProbe" in spec:
            begun = asyncio.Event()
            startup = asyncio.create_task(
                watch_probe(
                    spec["startupProbe"],
                    lambda: once("startupProbe"),
                    lambda good, said: begun.set() if good else self._unwell(container, said),
                )
            )
            try:
                await begun.wait()
            finally:
                startup.cancel()
                await ended(startup)
            state.started = True
            state.ready = "readinessProbe" not in spec
            self._touch()

        def live(good: bool, said: str) -> None:
            if not good and not self._doomed.is_set():
                self._unwell(container, said)

        def ready(good: bool, _said: str) -> None:
            if state.ready != good and state.running:
                state.ready = good
                self._touch()

        async with asyncio.TaskGroup() as group:
            for which, report in (("livenessProbe", live), ("readinessProbe", ready)):
                if which in spec:
                    group.create_task(
                        watch_probe(spec[which], lambda which=which: once(which), report)
                    )

    def _unwell(self, container: Container, said: str) -> None:
        log.warning("pod %s: probe failed: %s", self.name, said)
        container.signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(
            self._grace(), lambda: container.process.returncode is None and container.signal(9)
        )

    def _grace(self) -> float:
        metadata, spec = self.pod["metadata"], self.pod["spec"]
        default = spec.get("terminationGracePeriodSeconds", 30)
        return float(metadata.get("deletionGracePeriodSeconds", default))

    async def _terminate(self) -> None:
        """preStop, SIGTERM, and SIGKILL when the grace period is over or the object is gone."""
        specs = {each["name"]: each for each in self.pod["spec"]["containers"]}
        self._touch()
        if self._launches:
            await asyncio.wait(self._launches)
        stops = [
            asyncio.create_task(self._stop(specs[name], container))
            for name, container in self.containers.items()
            if name in specs and container.process.returncode is None
        ]
        gone = asyncio.create_task(self._gone.wait())
        whole = asyncio.gather(*stops)
        try:
            await asyncio.wait([whole, gone], timeout=self._grace(), return_when="FIRST_COMPLETED")
        finally:
            gone.cancel()
            whole.cancel()
            await ended(gone)
            await ended(whole)
        for container in self.containers.values():
            if container.process.returncode is None:
                container.signal(signal.SIGKILL)
                await container.process.wait()

    async def _stop(self, spec: Object, container: Container) -> None:
        hook = spec.get("lifecycle", {}).get("preStop")
        if hook is not None:
            await self._pre_stop(hook, spec, container)
        container.signal(signal.SIGTERM)
        await asyncio.shield(container.process.wait())

    async def _pre_stop(self, hook: Object, spec: Object, container: Container) -> None:
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
        elif "exec" in hook:
            await executor(container)(hook["exec"]["command"], self._grace())
        elif "httpGet" in hook:
            action = hook["httpGet"]
            url = f"http://{self.address}:{port_of(action['port'], spec)}{action.get('path', '/')}"
            with contextlib.suppress(aiohttp.ClientError):
                async with aiohttp.ClientSession() as http, http.get(url) as answer:
                    await answer.read()

    async def _remove(self) -> None:
        """Say how it ended, then take the object away."""
        for name, container in self.containers.items():
            state = self.states.get(name)
            if state is not None and state.running:
                code = container.process.returncode or 0
                state.end(code if code >= 0 else 128 - code)
        while not self._gone.is_set():
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                try:
                    await self._patch_status()
                    await self._delete()
                    return
                except ApiError as error:
                    if error.status in (404, 409):
                        return
            await asyncio.sleep(RETRY_SECONDS)

    async def _delete(self) -> None:
        path = await self.api.path("Pod", self.namespace, self.name)
        uid = self.pod["metadata"]["uid"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        await self.api.request("DELETE", path, json=options)

    async def _clean(self) -> None:
        for container in self.containers.values():
            if container.process.returncode is None:
                container.signal(signal.SIGKILL)
                await container.process.wait()
        if self.network is not None:
            await self.network.close()
        for part in ("containers", "volumes"):
            shutil.rmtree(self.folder / part, ignore_errors=True)

    def _touch(self) -> None:
        self._changed.set()

    async def _write_status(self) -> None:
        """Patch the status whenever something changed; again where the server is away."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._patch_status()
            except (ApiError, aiohttp.ClientError, TimeoutError) as error:
                if isinstance(error, ApiError) and error.status == 404:
                    return
                self._changed.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def _patch_status(self) -> None:
        uid = {"metadata": {"uid": self.pod["metadata"]["uid"]}}
        change = {**uid, "status": self.status()}
        await self.api.patch("Pod", self.name, self.namespace, change, of="status", form=STRATEGIC)

    def status(self) -> Object:
        """The pod's status as a kubelet would write it."""
        states = list(self.states.values())
        policy = self.pod["spec"].get("restartPolicy", "Always")
        is_ready = self._initialized and all(state.ready for state in states)
        reason = "" if is_ready else "ContainersNotReady"
        self._conditions.put("PodReadyToStartContainers", self.network is not None)
        self._conditions.put("Initialized", self._initialized, "ContainersNotInitialized")
        self._conditions.put("ContainersReady", is_ready, reason)
        self._conditions.put("Ready", is_ready, reason)
        return {
            "phase": phase(states, policy, initialized=self._initialized),
            "conditions": self._conditions.as_list(),
            "startTime": self._started_at,
            "containerStatuses": [state.as_status() for state in states],
            "initContainerStatuses": [each.as_status() for each in self.init_states.values()],
            **(self._addresses() if self.network is not None else {}),
        }

    def _addresses(self) -> Object:
        node = self._cluster["node"]
        return {
            "hostIP": node,
            "hostIPs": [{"ip": node}],
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
        }


def is_ready(status: Object) -> bool:
    conditions = status.get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def states_of(containers: Sequence[Object]) -> dict[str, ContainerState]:
    return {each["name"]: ContainerState(each["name"], each["image"]) for each in containers}


def limits_of(pod: Object, container: Object) -> Limits:
    own = {**pod, **container.get("securityContext", {})}
    return Limits(
        user=own.get("runAsUser"),
        group=own.get("runAsGroup"),
        read_only_root=own.get("readOnlyRootFilesystem", False),
        drop_capabilities="ALL" in own.get("capabilities", {}).get("drop", ()),
        no_new_privileges=not own.get("allowPrivilegeEscalation", True),
    )


def executor(container: Container) -> Callable[[Sequence[str], float], "asyncio.Future[int]"]:
    """Runs commands in the container; the exit code, 124 where time ran out."""

    async def run(argv: Sequence[str], seconds: float) -> int:
        process = await asyncio.create_subprocess_exec(
            *container.command(argv),
            env=dict(container.env),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            return await asyncio.wait_for(process.wait(), seconds)
        except TimeoutError:
            process.kill()
            await process.wait()
            return 124

    return run


def put_file(path: Path, content: bytes) -> None:
    """Write it whole, readable by any user, unless it holds this already."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.fresh")
    fresh.write_bytes(content)
    fresh.chmod(0o644)
    os.replace(fresh, path)


async def ended(task: "asyncio.Future[object]") -> None:
    """Wait for a task that was cancelled, or ended by itself."""
    with contextlib.suppress(asyncio.CancelledError):
        await task
