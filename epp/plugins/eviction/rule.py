"""The two parts of the rule of eviction, as configurations of other pickers name them."""

from typing import ClassVar


class SheddableEvictionFilter:
    """sheddable-eviction-filter: only requests of priority below 0 are taken back; accepted.

    Formula: none: enableEviction takes back nobody else.
    Parameters: none.
    Example:
        - type: sheddable-eviction-filter
    """

    type: ClassVar[str] = "sheddable-eviction-filter"
    point: ClassVar[str] = "eviction-filter"
    idle: ClassVar[str] = "nobody else is ever taken back; remove it"


class PriorityThenTimeEvictionOrderPolicy:
    """priority-then-time-eviction-order-policy: who is taken back first; accepted.

    Formula: none: enableEviction takes back the lowest priority first, and of one priority who was
    placed last.
    Parameters: none.
    Example:
        - type: priority-then-time-eviction-order-policy
    """

    type: ClassVar[str] = "priority-then-time-eviction-order-policy"
    point: ClassVar[str] = "eviction-ordering"
    idle: ClassVar[str] = "this is the order in which requests are taken back; remove it"
