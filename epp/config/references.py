"""Parameters that name a plugin or a profile: each is looked up, or said to lead nowhere.

The name of a type that writes what is meant, and that nobody configured, is added with its
defaults.
"""

from collections.abc import Sequence

from pydantic import ValidationError

from epp.config.catalogue import PluginClass
from epp.config.instances import Instances, Planned
from epp.config.params import ToProducer, ToProfile
from epp.config.problems import suggestion


def resolve(instances: Instances, profiles: Sequence[str]) -> None:
    """Look up what the parameters of all plugins name, those of added ones too."""
    seen: set[str] = set()
    while new := [planned for planned in instances if planned.name not in seen]:
        for planned in new:
            seen.add(planned.name)
            for reference in planned.references:
                if isinstance(reference, ToProfile):
                    _profile(planned, reference, profiles, instances)
                elif reference.name:
                    _producer(planned, reference, instances)


def _profile(
    planned: Planned, reference: ToProfile, profiles: Sequence[str], instances: Instances
) -> None:
    if reference.name in profiles:
        return
    instances.problems.add(
        planned.where(reference),
        f"no profile is called {reference.name!r}; add it under schedulingProfiles, or name one of "
        f"those there are: {', '.join(profiles)}",
    )


def _producer(planned: Planned, reference: ToProducer, instances: Instances) -> None:
    """Find the plugin, or add it."""
    path = planned.where(reference)
    if reference.name in instances:
        found = instances.refer(reference.name, path)
        if found and reference.wants not in found.writes:
            instances.problems.add(path, _of_another_kind(found, reference.wants, instances))
        return
    plugin = instances.catalogue.find(reference.name)
    if plugin is None or reference.wants not in _writes(plugin):
        instances.problems.add(path, _nobody(reference, instances))
        return
    if obstacle := _obstacle(plugin, reference.name, instances):
        instances.problems.add(path, obstacle)
        return
    instances.inject_as(reference.name, plugin, f"{planned.name} names it")
    if bare := getattr(plugin, "bare", ""):
        instances.problems.warn(path, f"{reference.name} is added with its defaults: {bare}")


def _obstacle(plugin: PluginClass, name: str, instances: Instances) -> str:
    """What speaks against adding a plugin of this type; empty for nothing.

    One of the same make is there for a reason: a second one would be fed by nobody.
    """
    for planned in instances:
        if issubclass(planned.plugin, plugin):
            return f"no plugin is named {name!r}; the one of this type is called {planned.name!r}"
    model = getattr(plugin, "Params", None)
    try:
        if model is not None:
            model.model_validate({})
    except ValidationError:
        return f"{name} does nothing by its defaults; add '- type: {name}' with its parameters"
    return ""


def _of_another_kind(found: Planned, wanted: str, instances: Instances) -> str:
    kinds = sorted({_kind(name, instances) for name in found.writes})
    what = " and ".join(kinds) or f"nothing, being a {' and '.join(found.points)}"
    offered = suggestion("", _offering(wanted, instances))
    return f"{found.name!r} writes {what}; {_kind(wanted, instances)} are wanted here; {offered}"


def _nobody(reference: ToProducer, instances: Instances) -> str:
    offered = suggestion(reference.name, _offering(reference.wants, instances))
    wanted = _kind(reference.wants, instances)
    return f"no plugin that writes {wanted} is named {reference.name!r}; {offered}"


def _offering(wanted: str, instances: Instances) -> list[str]:
    """Names of instances that write it, and of types that could."""
    there = [planned for planned in instances if wanted in planned.writes]
    types = {planned.type for planned in there}
    current = [p for p in instances.catalogue.classes.values() if not hasattr(p, "deprecated")]
    could = [plugin.type for plugin in current if wanted in _writes(plugin)]
    return [*(planned.name for planned in there), *(t for t in could if t not in types)]


def _writes(plugin: PluginClass) -> tuple[str, ...]:
    return (*getattr(plugin, "produces", ()), *getattr(plugin, "produces_named", ()))


def _kind(name: str, instances: Instances) -> str:
    kind = instances.catalogue.kinds.get(name)
    return str(kind) if kind else repr(name)
