"""What pickers share: how many to pick, and chance as an array."""

import random

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import Floats


class PickerParams(PluginParams):
    """How many endpoints a picker names; those after the first are fallbacks."""

    max_num_of_endpoints: int = Field(1, ge=1)


def uniforms(source: random.Random, count: int) -> Floats:
    """`count` numbers drawn evenly from [0, 1)."""
    # One call for all: 8 us for 1,000 numbers, 70 us by drawing each.
    bits = np.frombuffer(source.randbytes(8 * count), np.uint64)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
