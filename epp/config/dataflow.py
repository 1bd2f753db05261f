"""Who needs what from whom: missing producers are added, and each runs after what it consumes.

A plugin names the columns and facts it reads in `consumes` and those it writes in `produces`; the
framework looks at nothing else.
"""

from collections.abc import Sequence
from typing import Final

from epp.config.instances import Instances, Planned

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
    if offered:
        instances.problems.add(
            consumer.path,
            f"{consumer.name} consumes {name!r}, which nothing produces; "
            f"add one of: {', '.join(offered)}",
        )
    return False


def in_order(instances: Instances) -> tuple[Planned, ...]:
    """All producers, each after those whose output it consumes, else in the order of the file.

    A cycle, and a fact that would have to wait for a column, go to the problems.
    """
    producers = [p for p in instances if set(PRODUCERS) & set(p.points)]
    ordered: list[Planned] = []
    for producer in producers:
        _visit(producer, producers, [], ordered, instances)
    for producer in producers:
        _check_moment(producer, producers, instances)
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
    return [p for p in producers if p is not producer and wanted & set(p.produces)]


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
