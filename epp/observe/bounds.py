"""Upper bounds of histogram buckets, in seconds, bytes, tokens or shares.

They reach at least as far in both directions as those of the Go pickers; the last bucket of each
histogram is unbounded and not listed.
"""

from typing import Final


def powers_of_two(first: int, last: int) -> tuple[float, ...]:
    """Every power of two from 2**first to 2**last, both included."""
    return tuple(float(1 << power) for power in range(first, last + 1))


# fmt: off
DURATION: Final = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0,
    15.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0,
    1800.0, 2700.0, 3600.0,
)
"""Whole requests, 5 ms to an hour."""
FIRST_TOKEN: Final = (
    0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0,
    5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0,
)
"""Time to the first token, 5 ms to two minutes."""
PER_TOKEN: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2,
    0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 180.0, 360.0,
)
"""Time per output token, 0.5 ms to six minutes."""
SHORT: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Our own work, 0.1 ms to 100 ms."""
PHASE: Final = (
    0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0,
    10.0, 30.0, 60.0,
)
"""One phase of our own work: 20 us, and up to a minute because admission may wait."""
LAG: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""How late the event loop comes to what it had promised."""
SHARE: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# fmt: on

REQUEST_BYTES: Final = powers_of_two(6, 30)
"""64 bytes to 1 GiB."""
RESPONSE_BYTES: Final = powers_of_two(0, 24)
"""1 byte to 16 MiB."""
INPUT_TOKENS: Final = powers_of_two(0, 20)
OUTPUT_TOKENS: Final = powers_of_two(0, 17)
PREFIX_BYTES: Final = powers_of_two(4, 24)
