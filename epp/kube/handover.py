"""Whether the picker that leads now can be reached in place of one that has led."""

import asyncio
from collections.abc import Callable
from typing import Final

from epp.kube.api import PODS, Api, Unreachable
from epp.kube.election import TakesOver
from epp.kube.endpoints import ready_condition
from epp.kube.objects import UNREADABLE, Pod
from epp.kube.pool import decoder_of

REACHED_SECONDS: Final = 1.0
"""From a pod's being Ready until every node sends connections there, or nearly every one."""
LOOK_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 2.0
"""From a new leader's first word until its label, if it has one, has moved with all Services."""
_POD: Final = decoder_of(Pod)


async def takes_over(
    api: Api, namespace: str, holder: str, *, settle: float = REACHED_SECONDS
) -> bool:
    """Whether the pod of a lease's `holder` is Ready, as a Service must see it.

    False too where that cannot be known: no answer, no right to ask, no pod of that name. True
    only `settle` seconds later, when connections go there.
    """
    try:
        answer = await api.call("GET", PODS.path(namespace, pod_of(holder)), timeout=2.0)
        if not answer.good or not serves(_POD(answer.body)):
            return False
    except (Unreachable, *UNREADABLE):
        return False
    await asyncio.sleep(settle)
    return True


def serves(pod: Pod) -> bool:
    """Whether a Service sends new connections to the pod."""
    return pod.metadata.deletion_timestamp is None and ready_condition(pod) is not None


def pod_of(holder: str) -> str:
    """The pod in an identity `POD_UNIQUE`; names of pods have no underscore."""
    return holder.partition("_")[0]


class Succession:
    """Lets go of a former leader's connections, once its follower can be reached.

    Gateways keep connections as long as they can: without it they would ask who led for ever.
    `leads` says whether we lead, `another` who else does, empty for nobody known.
    """

    def __init__(
        self,
        leads: Callable[[], bool],
        another: Callable[[], str],
        takes_over: TakesOver,
        let_go: Callable[[], None],
        look_every: float = LOOK_SECONDS,
        settle: float = SETTLE_SECONDS,
    ) -> None:
        self._leads = leads
        self._another = another
        self._takes_over = takes_over
        self._let_go = let_go
        self._look_every = look_every
        self._settle = settle
        self._lost = asyncio.Event()

    def led(self, leads: bool) -> None:
        """Leadership has begun or ceased."""
        if leads:
            self._lost.clear()
        else:
            self._lost.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._lost.wait()
            if self._another() and await self._takes_over(self._another()):
                await asyncio.sleep(self._settle)
                if not self._leads():
                    self._lost.clear()
                    self._let_go()
            await asyncio.sleep(self._look_every)
