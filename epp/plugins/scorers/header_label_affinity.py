"""The scorer of a header against a label."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams
from epp.domain.pool import PoolView, Scores
from epp.domain.request import Request


class HeaderLabelAffinityScorer:
    """header-label-affinity-scorer: prefers endpoints whose label has the value of a header.

    Formula: 1 where the label labelKey equals the request's header headerName, else 0; no opinion
    without the header.
    Parameters: headerName, labelKey (both needed).
    Reads: labels, the header.
    Example:
        - type: header-label-affinity-scorer
          parameters: {headerName: x-tenant, labelKey: tenant}
    """

    type: ClassVar[str] = "header-label-affinity-scorer"

    class Params(PluginParams):
        header_name: str = Field(min_length=1)
        label_key: str = Field(min_length=1)

    def __init__(self, params: Params) -> None:
        self._header = params.header_name.lower()
        self._label = params.label_key

    def score(self, request: Request, pool: PoolView) -> Scores | None:
        wanted = request.headers.get(self._header)
        if not wanted:
            return None
        return np.array([float(e.labels.get(self._label) == wanted) for e in pool.endpoints])
