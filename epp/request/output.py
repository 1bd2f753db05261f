"""How many tokens a request may make, as its body says."""

from typing import Final, TypeAlias

from epp.errors import BadRequest

Cap: TypeAlias = int | float | None
"""A token limit as JSON has it; clients send `16` and `16.0`."""

_HIGHEST: Final = 2**31 - 1


def first_cap(**caps: Cap) -> int | None:
    """The first of `caps` that is given, in tokens; None for none or for a negative one.

    Larger numbers than any model can make are cut to 2**31-1, so that they fit every column.
    Raises `BadRequest` naming the field for a number that is not whole.
    """
    for field, cap in caps.items():
        if cap is None:
            continue
        if cap != cap // 1:
            raise BadRequest(f"{field}: not a whole number; give tokens as an integer")
        return None if cap < 0 else min(int(cap), _HIGHEST)
    return None
