"""Scheduling profiles as they will run: members sorted by what they are, gaps filled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from epp.config.default import DEFAULT_PICKER, DEFAULT_PROFILE
from epp.config.instances import Instances, Planned
from epp.config.problems import Path
from epp.config.schema import EndpointPickerConfig, ProfilePlugin, SchedulingProfile

MEMBERS: Final = ("filter", "scorer", "picker")
DETECTOR: Final = "saturation-detector"
"""Filters too, some of them, but only where a profile names them: full endpoints are waited for."""


@dataclass(slots=True)
class PlannedProfile:
    """One profile: filters and scorers in the order of the list, and a picker."""

    name: str
    path: Path
    """Where it is written; empty for the profile that is made up of everything configured."""
    filters: list[Planned] = field(default_factory=list)
    scorers: list[tuple[Planned, float]] = field(default_factory=list)
    picker: Planned | None = None
    """Never None in a finished plan."""
    written: list[str] = field(default_factory=list)
    """Names of its members as listed."""

    def members(self) -> list[str]:
        """Names of all members: those listed, then a picker that was not."""
        added = self.picker is not None and self.picker.name not in self.written
        return [*self.written, *([self.picker.name] if added and self.picker else [])]


def plan_profiles(
    written: Sequence[SchedulingProfile], instances: Instances
) -> tuple[PlannedProfile, ...]:
    """The profiles as written; with none written, one that holds all members in file order."""
    profiles = [_profile(p, ("schedulingProfiles", i), instances) for i, p in enumerate(written)]
    names = [profile.name for profile in profiles]
    for profile in profiles:
        if names.count(profile.name) > 1 and profiles[names.index(profile.name)] is not profile:
            instances.problems.add(
                (*profile.path, "name"), f"a profile named {profile.name!r} exists; rename this one"
            )
    if not written:
        profiles = [_of_everything(instances)]
    for profile in profiles:
        _complete(profile, instances)
    return tuple(profiles)


def plan_handler(
    profiles: Sequence[PlannedProfile], config: EndpointPickerConfig, instances: Instances
) -> Planned | None:
    """The profile handler; None where there is one profile, which needs nobody to choose it."""
    handlers = [planned for planned in instances if "profile-handler" in planned.points]
    for second in handlers[1:]:
        instances.problems.add(
            second.path, f"{second.name} is a second profile handler beside {handlers[0].name}"
        )
    if handlers:
        return handlers[0]
    if len(profiles) > 1 and not instances.broken:
        offered = ", ".join(p.type for p in instances.catalogue.offering("profile-handler"))
        instances.problems.add(
            ("schedulingProfiles",),
            f"{len(profiles)} profiles need a profile handler; add one under plugins ({offered})",
        )
    return None


def _profile(written: SchedulingProfile, path: Path, instances: Instances) -> PlannedProfile:
    profile = PlannedProfile(written.name, path)
    for i, member in enumerate(written.plugins):
        where = (*path, "plugins", i)
        planned = instances.refer(member.plugin_ref, (*where, "pluginRef"))
        if planned and _is_member(planned, where, instances):
            _join(profile, planned, member, where, instances)
    return profile


def _is_member(planned: Planned, path: Path, instances: Instances) -> bool:
    """Go pickers pass over what has no part in a profile, so there are files that list it."""
    if not set(planned.points).isdisjoint(MEMBERS):
        return True
    instances.problems.warn(
        (*path, "pluginRef"),
        f"{planned.name} has no part in a profile, being a {' and '.join(planned.points)}; "
        "remove it here",
    )
    return False


def _join(
    profile: PlannedProfile,
    planned: Planned,
    member: ProfilePlugin,
    path: Path,
    instances: Instances,
) -> None:
    points = planned.points
    if member.weight is not None and "scorer" not in points:
        instances.problems.warn(
            (*path, "weight"), f"{planned.name} is no scorer; only scorers have a weight, remove it"
        )
    if planned in profile.filters or any(planned is scorer for scorer, _ in profile.scorers):
        instances.problems.add(path, f"{planned.name} is in this profile already; remove one")
        return
    profile.written.append(planned.name)
    if "filter" in points:
        profile.filters.append(planned)
    if "scorer" in points:
        profile.scorers.append((planned, 1.0 if member.weight is None else member.weight))
    if "picker" in points:
        _choose(profile, planned, path, instances)


def _choose(profile: PlannedProfile, picker: Planned, path: Path, instances: Instances) -> None:
    if profile.picker is None:
        profile.picker = picker
        return
    instances.problems.add(
        path,
        f"{picker.name} is a second picker in profile {profile.name}, beside "
        f"{profile.picker.name}; keep one",
    )


def _of_everything(instances: Instances) -> PlannedProfile:
    profile = PlannedProfile(DEFAULT_PROFILE, ())
    for planned in instances:
        if set(planned.points) & set(MEMBERS) and DETECTOR not in planned.points:
            instances.used.add(planned.name)
            member = ProfilePlugin(plugin_ref=planned.name)
            _join(profile, planned, member, planned.path, instances)
    return profile


def _complete(profile: PlannedProfile, instances: Instances) -> None:
    if not profile.scorers and profile.picker is None:
        instances.problems.warn(
            profile.path, f"profile {profile.name} has no scorer: it picks at random"
        )
    if profile.picker is None:
        pickers = [p for p in instances if "picker" in p.points and p.path]
        because = f"profile {profile.name} names no picker"
        if len(pickers) == 1:
            profile.picker = pickers[0]
            instances.used.add(pickers[0].name)
        else:
            profile.picker = instances.inject(DEFAULT_PICKER, because)
    if profile.picker is None:
        instances.problems.add(profile.path, f"profile {profile.name} has no picker; add one")
