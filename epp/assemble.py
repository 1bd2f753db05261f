"""A configuration and a catalogue become a policy: the plugins built, measured and in order.

The picker, the policy lab and `epp config check` all build here, so what one accepts all accept.
"""

import random
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from epp.config.catalogue import METHODS, Catalogue, constructor_arguments
from epp.config.default import DEFAULT_CONFIG, DEFAULT_ORIGIN
from epp.config.instances import Planned
from epp.config.load import LoadedConfig, load
from epp.config.plan import Plan, plan
from epp.config.problems import Place
from epp.config.profiles import PlannedProfile
from epp.datastore.shelf import Shelves
from epp.domain.clock import Clock
from epp.domain.response import ResponseMode
from epp.errors import ConfigError
from epp.points import Filter, Picker, ProfileHandler, Scorer, StateShelf, Tools
from epp.scheduling.measure import Observe, observed
from epp.scheduling.policy import Policy
from epp.scheduling.profile import Named, Profile, Weighted
from epp.scheduling.scheduler import Scheduler
from epp.scheduling.tolerate import TOLERATED, Tolerant

Built: TypeAlias = Mapping[str, Any]
"""Plugin instances by name."""

BLIND: Final[Mapping[str, tuple[str, ...]]] = {
    ResponseMode.FULL.value: (),
    ResponseMode.WATCH.value: ("usage-reader", "reporter"),
    ResponseMode.FORGET.value: ("usage-reader", "reporter", "end-observer"),
}
"""Response mode to the points that learn nothing in it: usage needs the body, an end the stream."""


def _nobody(point: str, type_name: str, name: str) -> None:
    return None


def _raise(point: str, type_name: str, name: str, error: Exception) -> None:
    raise error


@dataclass(slots=True, frozen=True, kw_only=True)
class House:
    """What plugins are lent, and who measures them."""

    clock: Clock
    random: random.Random
    shelf: Callable[[str, str], StateShelf]
    """State that outlives a reload, for a plugin's name and type: `Shelves.shelf`."""
    secret: bytes
    failed: Callable[[str, str, str, Exception], None] = _raise
    """Told the point, type and name of a plugin that raised, and what."""
    measure: Callable[[str, str, str], Observe | None] = _nobody
    """For a point, a type and a name: who hears how many seconds each call took; None: nobody."""
    traced: bool = True
    """Whether decisions keep the arrays they came from."""


def bare_house(seed: int | None = None) -> House:
    """A house that nothing outlives: to check a configuration, or to replay with a `seed`."""
    return House(
        clock=time.monotonic,
        random=random.Random(seed),
        shelf=Shelves().shelf,
        secret=secrets.token_bytes(32),
    )


@dataclass(slots=True, frozen=True)
class Assembly:
    """A policy, the plan it was built from and every instance by name, as constructed."""

    plan: Plan
    policy: Policy
    instances: Built
    """What rooms of their own (sources, discovery) take their parameters from."""


def assemble(loaded: LoadedConfig, catalogue: Catalogue, house: House) -> Assembly:
    """Build everything a configuration asks for. Raises ConfigError with all problems at once."""
    planned = plan(loaded, catalogue)
    built = _build_all(planned, house)
    return Assembly(planned, _policy(planned, built, house), built)


def assemble_text(
    text: str | bytes | None, origin: str, catalogue: Catalogue, house: House
) -> Assembly:
    """The same from a text; None is the built-in default. Raises ConfigError."""
    if text is None:
        text, origin = DEFAULT_CONFIG, DEFAULT_ORIGIN
    return assemble(load(text, origin), catalogue, house)


def _build_all(planned: Plan, house: House) -> Built:
    built: dict[str, Any] = {}
    problems: list[str] = []
    for one in planned.plugins:
        try:
            built[one.name] = _build(one, planned.loaded.place, house)
        except ConfigError as fault:
            problems.extend(fault.problems)
    if problems:
        raise ConfigError(problems)
    return built


def _build(planned: Planned, place: Place, house: House) -> Any:
    lent: dict[str, Any] = {
        "params": planned.params,
        "tools": Tools(
            name=planned.name,
            clock=house.clock,
            random=house.random,
            state=house.shelf(planned.name, planned.type),
            secret=house.secret,
        ),
    }
    wanted = constructor_arguments(planned.plugin)
    try:
        return planned.plugin(**{name: lent[name] for name in lent if name in wanted})
    except Exception as fault:
        what = f"{planned.type} cannot be built: {type(fault).__name__}: {fault}"
        raise ConfigError([place.says(planned.path, what)]) from fault


def _policy(planned: Plan, built: Built, house: House) -> Policy:
    def at(point: str, among: Iterable[Planned] = planned.plugins) -> tuple[Any, ...]:
        return tuple(
            _measured(p, point, built, house) for p in among if _answers(built[p.name], point)
        )

    detectors = at("saturation-detector", (planned.detector,) if planned.detector else ())
    return Policy(
        scheduler=_scheduler(planned, built, house),
        parsers=at("parser", planned.parsers),
        fact_producers=at("fact-producer", planned.producers),
        screeners=at("screener"),
        pool_producers=at("pool-producer", planned.producers),
        admitters=at("admitter"),
        saturation=detectors[0] if detectors else None,
        pick_observers=at("pick-observer"),
        response_observers=at("response-observer"),
        usage_readers=at("usage-reader"),
        reporters=at("reporter"),
        end_observers=at("end-observer"),
        blind={mode: _blind(planned, points) for mode, points in BLIND.items()},
        warnings=planned.warnings,
    )


def _scheduler(planned: Plan, built: Built, house: House) -> Scheduler:
    handler = planned.handler and _measured(planned.handler, "profile-handler", built, house)
    profiles = [_profile(profile, built, house) for profile in planned.profiles]
    return Scheduler(profiles, cast("ProfileHandler | None", handler), traced=house.traced)


def _profile(profile: PlannedProfile, built: Built, house: House) -> Profile:
    def member(planned: Planned, point: str) -> Any:
        return _measured(planned, point, built, house)

    assert profile.picker is not None
    picker: Picker = member(profile.picker, "picker")
    filters: list[Named[Filter]] = [Named(p.name, member(p, "filter")) for p in profile.filters]
    scorers: list[tuple[str, Scorer, float]] = [
        (p.name, member(p, "scorer"), weight) for p, weight in profile.scorers
    ]
    return Profile(
        profile.name,
        filters=filters,
        scorers=[Weighted(*scorer) for scorer in scorers],
        picker=Named(profile.picker.name, picker),
    )


def _measured(planned: Planned, point: str, built: Built, house: House) -> Any:
    observe = house.measure(point, planned.type, planned.name)
    plugin = built[planned.name]
    if point not in TOLERATED:
        return observed(plugin, METHODS[point], observe) if observe else plugin

    def failed(error: Exception) -> None:
        house.failed(point, planned.type, planned.name, error)

    return Tolerant(plugin, METHODS[point], TOLERATED[point], failed, observe)


def _answers(plugin: object, point: str) -> bool:
    return all(callable(getattr(plugin, method, None)) for method in METHODS[point])


def _blind(planned: Plan, points: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(p.name for p in planned.plugins if not set(points).isdisjoint(p.points))
