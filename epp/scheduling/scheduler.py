"""Runs profiles over one view of the pool until the handler is content.

Without a handler there is one profile and it runs once, which is what nearly everybody configures.
"""

from collections.abc import Sequence

from epp.domain.decision import Decision, ProfileResult
from epp.domain.pool import PoolView
from epp.domain.request import Request
from epp.errors import NoEndpoints
from epp.points import ProfileHandler
from epp.scheduling.profile import Profile


class Scheduler:
    """Places requests. Holds no state of its own between two requests.

    A traced pick by three scorers costs 38 us among 10 endpoints and 51 us among 1,000, half of it
    in the plugins (CPython 3.11 without PGO, a shared machine; `test/bench/bench_scheduling.py`).
    """

    __slots__ = ("_front_port", "_handler", "_names", "_only", "_profiles", "_traced")

    def __init__(
        self,
        profiles: Sequence[Profile],
        handler: ProfileHandler | None = None,
        *,
        traced: bool = True,
    ) -> None:
        """Without `handler` there must be exactly one profile, else ValueError.

        `traced` keeps the arrays of each decision on its results, for the record of decisions.
        """
        if handler is None and len(profiles) != 1:
            raise ValueError(f"{len(profiles)} profiles and no handler to choose among them")
        self._profiles = {profile.name: profile for profile in profiles}
        self._names = tuple(self._profiles)
        self._only = profiles[0] if handler is None else None
        self._handler = handler
        self._front_port: int = getattr(handler, "front_port", 0)
        self._traced = traced

    def schedule(self, request: Request, pool: PoolView) -> Decision:
        """Where `request` goes. Raises NoEndpoints when no endpoint is there or none is left."""
        if not len(pool):
            raise NoEndpoints("no endpoint of the pool is ready")
        if self._only is None:
            return self._by_handler(request, pool)
        result = self._only.run(request, pool, traced=self._traced)
        return self._decision(request, pool, self._only, result)

    def _by_handler(self, request: Request, pool: PoolView) -> Decision:
        assert self._handler is not None
        results: dict[str, ProfileResult | None] = {}
        while names := self._handler.next_profiles(request, results, self._names):
            for name in names:
                if name in results:
                    raise ValueError(f"the profile handler asks for profile {name!r} twice")
                results[name] = self._named(name).run(request, pool, traced=self._traced)
        primary = self._handler.primary(results)
        others = tuple(r for name, r in results.items() if name != primary and r is not None)
        return self._decision(request, pool, self._named(primary), results.get(primary), others)

    def _named(self, name: str) -> Profile:
        profile = self._profiles.get(name)
        if profile is None:
            raise ValueError(f"the profile handler asks for profile {name!r}, which does not exist")
        return profile

    def _decision(
        self,
        request: Request,
        pool: PoolView,
        profile: Profile,
        result: ProfileResult | None,
        others: tuple[ProfileResult, ...] = (),
    ) -> Decision:
        if result is None:
            raise NoEndpoints(profile.nothing_left(len(pool)))
        reason = profile.reason if result.totals else "the only endpoint left"
        return Decision(
            request_id=request.id,
            primary=result,
            others=others,
            reason=reason,
            front_port=self._front_port,
        )
