"""Who may read /metrics: the cluster is asked who a token belongs to, and what that user may do."""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from structlog.typing import FilteringBoundLogger

from epp.domain.clock import Clock
from epp.kube.api import Api, Unreachable

TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
ALLOWED_SECONDS: Final = 60.0
REFUSED_SECONDS: Final = 10.0
MOST_REMEMBERED: Final = 1000
AT_ONCE: Final = 4
LONGEST_TOKEN: Final = 16 << 10
TIMEOUT: Final = 5.0

OK, UNKNOWN, DENIED, UNDECIDED = 200, 401, 403, 503


class MetricsReaders:
    """Lets those read `/metrics` whom the cluster allows `get` on that path; remembers briefly."""

    def __init__(self, api: Api, *, clock: Clock, log: FilteringBoundLogger) -> None:
        self._api = api
        self._clock = clock
        self._log = log
        self._known: dict[bytes, tuple[int, float]] = {}
        self._asking = asyncio.Semaphore(AT_ONCE)

    async def __call__(self, headers: Mapping[str, str]) -> int:
        """200, or the status to refuse with: 401, 403, 503 where the cluster cannot be asked."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > LONGEST_TOKEN:
            return UNKNOWN
        key = hashlib.sha256(token.encode()).digest()
        async with self._asking:
            status, until = self._known.get(key, (UNDECIDED, 0.0))
            if self._clock() < until:
                return status
            status = await self._ask(token)
            self._remember(key, status)
        return status

    def _remember(self, key: bytes, status: int) -> None:
        if status == UNDECIDED:
            return
        seconds = ALLOWED_SECONDS if status == OK else REFUSED_SECONDS
        self._known.pop(key, None)
        if len(self._known) >= MOST_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[key] = (status, self._clock() + seconds)

    async def _ask(self, token: str) -> int:
        try:
            said = await self._review(TOKEN_REVIEWS, "TokenReview", {"token": token})
            if not said.get("authenticated"):
                return UNKNOWN
            user = said.get("user") or {}
            spec = {
                "user": user.get("username", ""),
                "uid": user.get("uid", ""),
                "groups": user.get("groups") or [],
                "extra": user.get("extra") or {},
                "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
            }
            said = await self._review(ACCESS_REVIEWS, "SubjectAccessReview", spec)
        except Unreachable as error:
            self._log.error("readers of metrics cannot be checked", why=str(error))
            return UNDECIDED
        return OK if said.get("allowed") and not said.get("denied") else DENIED

    async def _review(self, path: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        """The status of a review. Raises Unreachable when the server does not do it."""
        body = {"apiVersion": f"{path.split('/')[2]}/v1", "kind": kind, "spec": spec}
        answer = await self._api.call("POST", path, body=body, timeout=TIMEOUT)
        if answer.status == 401:
            await self._api.renew_credentials()
        if not answer.good:
            raise Unreachable(f"{kind}: {answer.failure.why}")
        status: dict[str, Any] = answer.json().get("status") or {}
        return status
