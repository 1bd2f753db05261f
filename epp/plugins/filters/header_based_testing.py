"""The filter that lets a test name the endpoint."""

from typing import ClassVar

import numpy as np

from epp.domain.endpoint import split_address
from epp.domain.headers import TEST_SELECTION
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request


class HeaderBasedTestingFilter:
    """header-based-testing-filter: keeps the endpoints a test names in a header.

    Formula: endpoints listed in test-epp-endpoint-selection (comma list of host, host:port, [v6] or
    [v6]:port); a host without a port means every rank of it. Without the header none is kept.
    Parameters: none.
    Reads: header test-epp-endpoint-selection.
    Differs from the Go picker: keeps every rank a bare host names instead of the last one. Lets a
    client choose its endpoint, so it has no place outside of conformance tests.
    Example:
        - type: header-based-testing-filter
    """

    type: ClassVar[str] = "header-based-testing-filter"

    def filter(self, request: Request, pool: PoolView) -> Mask:
        wanted = _wanted(request.headers.get(TEST_SELECTION, ""))
        return np.array(
            [
                (endpoint.host, endpoint.port) in wanted or (endpoint.host, None) in wanted
                for endpoint in pool.endpoints
            ],
            dtype=np.bool_,
        )


def _wanted(text: str) -> set[tuple[str, int | None]]:
    """Addresses of the list; what cannot be read names no endpoint."""
    wanted = set()
    for member in text.split(","):
        try:
            wanted.add(split_address(member))
        except ValueError:
            continue
    return wanted
