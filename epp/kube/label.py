"""The leader's mark: a label on its own pod, taken from all others, that a Service may select."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from epp.kube.api import MERGE_PATCH, PODS, Answer, Api, Unreachable

REPEAT_SECONDS: Final = 5.0


class LeaderLabel:
    """Keeps `label=value` on the pod `own`, and on no other, while `leading` says so.

    The value names the set of pickers: labels of other sets in the namespace stay untouched.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        own: str,
        label: tuple[str, str],
        leading: Callable[[], bool],
        log: FilteringBoundLogger,
        repeat: float = REPEAT_SECONDS,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._own = own
        self._label, self._value = label
        self._leading = leading
        self._log = log
        self._repeat = repeat
        self._now = asyncio.Event()
        self._complaint = ""

    def look(self) -> None:
        """Leadership has changed: see to the label at once."""
        self._now.set()

    async def run(self) -> None:
        """See to it again and again until cancelled: labels get lost, and calls fail."""
        while True:
            if self._leading():
                await self._try()
            try:
                async with asyncio.timeout(self._repeat):
                    await self._now.wait()
            except TimeoutError:
                continue
            self._now.clear()

    async def _try(self) -> None:
        try:
            await self._mark()
        except Unreachable as error:
            if not self._complaint:
                self._log.error("leader label cannot be set", label=self._label, why=str(error))
            self._complaint = str(error)
        else:
            self._complaint = ""

    async def _mark(self) -> None:
        """Our own first: two pods behind a Service for a moment are better than none."""
        marked = await self._marked()
        if self._own not in marked and self._leading():
            await self._patch(self._own, self._value)
        for name in marked:
            if name != self._own and self._leading():
                await self._patch(name, None)

    async def _marked(self) -> list[str]:
        query = {"labelSelector": f"{self._label}={self._value}"}
        answer = good(await self._api.call("GET", PODS.path(self._namespace), query=query))
        items: list[Any] = answer.json().get("items") or []
        return [item["metadata"]["name"] for item in items]

    async def _patch(self, pod: str, value: str | None) -> None:
        path = PODS.path(self._namespace, pod)
        patch = {"metadata": {"labels": {self._label: value}}}
        answer = await self._api.call("PATCH", path, body=patch, content_type=MERGE_PATCH)
        # Another's pod may have gone since.
        if answer.status != 404 or value is not None:
            good(answer)
        self._log.info("leader label", pod=pod, value=value or "taken away")


def good(answer: Answer) -> Answer:
    """The same answer. Raises Unreachable for a refusal."""
    if not answer.good:
        raise Unreachable(answer.failure.why)
    return answer
