"""Time is an argument: who needs it is given a clock."""

from collections.abc import Callable
from typing import TypeAlias

Clock: TypeAlias = Callable[[], float]
"""Returns monotonic seconds; the origin is arbitrary, only differences mean anything."""
