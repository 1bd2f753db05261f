"""The pool and its pods, followed together: which endpoints there are, or why there are none."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from epp.domain.endpoint import Endpoint
from epp.kube.api import PODS, Kind
from epp.kube.endpoints import PodEndpoints, Wanted, wanted_of
from epp.kube.follow import Follower
from epp.kube.objects import AlphaPool, Pod, Pool
from epp.kube.reflector import Reflector


class Follow(Protocol):
    """Makes a follower of one kind, not yet running."""

    def __call__(
        self,
        kind: Kind,
        of: type[Any],
        changed: Callable[[], None],
        selection: Mapping[str, str] | None = None,
    ) -> Follower[Any]: ...


class Hears(Protocol):
    """Who is told about the pool. `why` is for people, empty when all is well."""

    def pool(self, why: str) -> None: ...

    def pods(self, why: str) -> None: ...

    def endpoints(self, endpoints: list[Endpoint]) -> None: ...


class PoolWatch:
    """Follows a pool by name, or for a given selection of pods none at all."""

    def __init__(
        self, follow: Follow, kind: Kind, name: str, hears: Hears, fixed: Wanted | None = None
    ) -> None:
        self.exists = fixed is not None
        self._follow = follow
        self._name = name
        self._hears = hears
        self._wanted = fixed
        self._pods: Follower[Pod] | None = None
        self._pods_task: asyncio.Task[None] | None = None
        self._made = PodEndpoints(())
        self._shown = False
        self._tasks: asyncio.TaskGroup | None = None
        self._pool: Follower[Any] | None = None
        if fixed is None:
            of = AlphaPool if kind.version == "v1alpha2" else Pool
            selection = {"fieldSelector": f"metadata.name={name}"}
            self._pool = follow(kind, of, self._pool_changed, selection)

    @property
    def reflectors(self) -> dict[str, Reflector[Any]]:
        """By plural, for metrics."""
        followers = {"inferencepools": self._pool, "pods": self._pods}
        return {name: found.reflector for name, found in followers.items() if found is not None}

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            if self._pool is not None:
                tasks.create_task(self._pool.run(), name="pool")
            else:
                assert self._wanted is not None
                self._hears.pool("")
                self._take(self._wanted)

    # -- the pool ---------------------------------------------------------------------------------

    def _pool_changed(self) -> None:
        try:
            wanted = self._what_is_wanted()
        except LookupError as error:
            self._hears.pool(str(error))
            return
        except ValueError as error:
            self.exists = False
            self._drop()
            self._hears.pool(str(error))
            return
        self.exists = True
        self._hears.pool("")
        if wanted != self._wanted:
            self._take(wanted)

    def _what_is_wanted(self) -> Wanted:
        """Raises LookupError while nothing is known, ValueError when there is nothing to serve."""
        assert self._pool is not None
        found = self._pool.reflector
        if not found.settled:
            raise LookupError(f"{found.trouble.value}: {found.why}" if found.why else "not yet")
        if (bad := found.unreadable.get(self._name)) is not None:
            raise ValueError(f"{self._name} cannot be read: {bad}")
        pool = found.objects.get(self._name)
        if pool is None:
            raise ValueError(f"{self._name} is not there" + (f": {found.why}" if found.why else ""))
        try:
            return wanted_of(pool)
        except ValueError as error:
            raise ValueError(f"{self._name}: {error}") from error

    # -- its pods ---------------------------------------------------------------------------------

    def _take(self, wanted: Wanted) -> None:
        """Follow other pods; those known stay in use until the new ones are listed."""
        before, self._wanted = self._wanted, wanted
        self._made = PodEndpoints(wanted.ports)
        if self._pods is not None and before and before.selector == wanted.selector:
            self._pods_changed()
            return
        self._stop_pods()
        self._pods = self._follow(
            PODS, Pod, self._pods_changed, {"labelSelector": wanted.label_selector}
        )
        assert self._tasks is not None
        self._pods_task = self._tasks.create_task(self._pods.run(), name="pods")

    def _pods_changed(self) -> None:
        if self._pods is None:
            return
        found = self._pods.reflector
        if found.synced:
            self._shown = True
            self._hears.endpoints(self._made.of(found.objects.values()))
            self._hears.pods("")
        elif not self._shown:
            self._hears.pods(f"pods {found.trouble.value}: {found.why}")

    def _drop(self) -> None:
        self._stop_pods()
        self._pods = None
        self._wanted = None
        if self._shown:
            self._shown = False
            self._hears.endpoints([])
            self._hears.pods("the pool is not there")

    def _stop_pods(self) -> None:
        if self._pods_task is not None:
            self._pods_task.cancel()
            self._pods_task = None


def decoder_of(of: type[Any]) -> Callable[[bytes], Any]:
    """Decodes objects of one kind."""
    return msgspec.json.Decoder(of).decode
