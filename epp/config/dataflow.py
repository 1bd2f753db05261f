"""Who needs what from whom: missing producers are added, and each runs after what it consumes.

A plugin names the columns and facts it reads in `consumes` and those it writes in `produces`, or in
`produces_named` those it writes under its own name alone, for whoever names it. A parameter may ask
for more (`refers`). The framework looks at nothing else.
"""

from collections.abc import Sequence
from typing import Final

from epp.config.catalogue import METHODS
from epp.config.instances import Instances, Planned
from epp.config.params import ToProducer
from epp.config.problems import Path

PRODUCERS: Final = ("fact-producer", "pool-producer")


def add_producers(instances: Instances) -> None:
    """Add the default producer of everything that is consumed and that nobody produces."""
    missing = True
    while missing:
        made = {name for planned in instances for name in planned.produces}
        missing = False
        for planned in instances:
            for name in planned.consumes:
                if name not in made and _add(name, planned, instances):
                    missing = True
                made.add(name)


def _add(name: str, consumer: Planned, instances: Instances) -> bool:
    catalogue = instances.catalogue
    default = catalogue.default_producers.get(name)
    if default and instances.inject(default, f"{consumer.name} consumes {name}"):
        return True
    offered = [p.type for p in catalogue.classes.values() if name in getattr(p, "produces", ())]
    path = _asked_at(consumer, name)
    if (offered or path != consumer.path) and not instances.broken:
        fix = f"add one of: {', '.join(offered)}" if offered else "name a plugin that writes it"
        instances.problems.add(
            path, f"{consumer.name} consumes {name!r}, which nothing produces; {fix}"
        )
    return False


def _asked_at(consumer: Planned, name: str) -> Path:
    """The parameter that makes a plugin read `name`, else the plugin."""
    asking = (r for r in consumer.references if isinstance(r, ToProducer) and r.wants == name)
    return next((consumer.where(reference) for reference in asking), consumer.path)


def in_order(instances: Instances) -> tuple[Planned, ...]:
    """All producers, each after those whose output it consumes, else in the order of the file.

    A cycle, a fact that would have to wait for a column, and one thing declared where another is
    made go to the problems.
    """
    producers = [p for p in instances if set(PRODUCERS) & set(p.points)]
    ordered: list[Planned] = []
    for producer in producers:
        _visit(producer, producers, [], ordered, instances)
    for producer in producers:
        _check_moment(producer, producers, instances)
    for planned in instances:
        _check_kinds(planned, instances)
    return tuple(ordered)


def _visit(
    producer: Planned,
    producers: Sequence[Planned],
    above: list[Planned],
    ordered: list[Planned],
    instances: Instances,
) -> None:
    if producer in ordered:
        return
    if producer in above:
        loop = [*above[above.index(producer) :], producer]
        instances.problems.add(
            producer.path,
            f"plugins consume each other's output in a circle: {' <- '.join(p.name for p in loop)}",
        )
        return
    for needed in _needed(producer, producers):
        _visit(needed, producers, [*above, producer], ordered, instances)
    if producer not in ordered:
        ordered.append(producer)


def _needed(producer: Planned, producers: Sequence[Planned]) -> list[Planned]:
    wanted = set(producer.consumes)
    named = {r.name for r in producer.references if isinstance(r, ToProducer)}
    others = [p for p in producers if p is not producer]
    return [p for p in others if p.name in named or wanted & set(p.produces)]


def _check_moment(producer: Planned, producers: Sequence[Planned], instances: Instances) -> None:
    """Facts of a request are gathered before admission, columns after it."""
    if "fact-producer" not in producer.points or "pool-producer" in producer.points:
        return
    for needed in _needed(producer, producers):
        if "fact-producer" not in needed.points:
            instances.problems.add(
                producer.path,
                f"{producer.name} gathers facts before admission but consumes a column of "
                f"{needed.name}, which comes after it; make it a producer of columns",
            )


def _check_kinds(planned: Planned, instances: Instances) -> None:
    """Who declares facts of a request gathers them, who declares columns makes them."""
    for name in planned.writes:
        kind = instances.catalogue.kinds.get(name)
        if kind and kind.point not in planned.points:
            instances.problems.add(
                planned.path,
                f"{planned.name} declares {name!r}, but {kind} are written by a {kind.point}; "
                f"give it the method {' and '.join(METHODS[kind.point])}, or declare another name",
            )
            return
