"""The header and metadata names of the contract, and how a header is looked up by its aliases.

Names are lower case, as HTTP/2 has them. Where the field has two spellings, the newer stands first.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

Headers: TypeAlias = Mapping[str, str]
"""Header names in lower case to their last value; pseudo-headers such as `:path` included."""

DESTINATION: Final = "x-gateway-destination-endpoint"
SUBSET: Final = "x-gateway-destination-endpoint-subset"
SERVED: Final = "x-gateway-destination-endpoint-served"
SCORES: Final = "x-gateway-destination-endpoint-scores"

LB_NAMESPACE: Final = "envoy.lb"
SUBSET_NAMESPACE: Final = "envoy.lb.subset_hint"

REQUEST_ID: Final = "x-request-id"
DROPPED_REASON: Final = "x-llm-d-request-dropped-reason"
ENDPOINT_SHOWN: Final = "x-epp-endpoint"
REASON_SHOWN: Final = "x-epp-reason"
WORKLOAD_ID_SHOWN: Final = "x-workload-id"

OBJECTIVE: Final = ("x-llm-d-inference-objective", "x-gateway-inference-objective")
FAIRNESS_ID: Final = ("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id")
MODEL_REWRITE: Final = ("x-llm-d-model-name-rewrite", "x-gateway-model-name-rewrite")
SLO_TTFT_MS: Final = ("x-llm-d-slo-ttft-ms", "x-slo-ttft-ms")
SLO_TPOT_MS: Final = ("x-llm-d-slo-tpot-ms", "x-slo-tpot-ms")
WORKLOAD: Final = ("x-workload-context",)
REQUEST_TTL_MS: Final = ("x-epp-request-ttl-ms",)
"""How long a request may wait for its turn, in whole milliseconds; ours alone."""
PREFER: Final = "prefer"
"""RFC 7240; of its preferences only `if-available` means something here."""
VIDEO_FPS: Final = "x-llm-d-video-fps"
VIDEO_SECONDS: Final = "x-llm-d-video-duration-seconds"
VIDEO_RESOLUTION: Final = "x-llm-d-video-resolution"
"""Width, `x`, height."""
TEST_SELECTION: Final = "test-epp-endpoint-selection"

CLIENT_HEADERS: Final[Mapping[str, tuple[str, ...]]] = {
    "objective": OBJECTIVE,
    "fairness": FAIRNESS_ID,
    "model-rewrite": MODEL_REWRITE,
    "slo": (*SLO_TTFT_MS, *SLO_TPOT_MS),
    "request-ttl": REQUEST_TTL_MS,
    "workload": WORKLOAD,
    "test": (TEST_SELECTION,),
}
"""What a client may ask for by header, by the name under which reading it is configured."""

CONTROL_HEADERS: Final = frozenset(
    {
        *OBJECTIVE,
        *FAIRNESS_ID,
        *MODEL_REWRITE,
        *SLO_TTFT_MS,
        *SLO_TPOT_MS,
        *REQUEST_TTL_MS,
        *WORKLOAD,
        VIDEO_FPS,
        VIDEO_SECONDS,
        VIDEO_RESOLUTION,
        SUBSET,
        SERVED,
        SCORES,
        DROPPED_REASON,
        "x-prefiller-host-port",
        "x-encoder-hosts-ports",
        "x-data-parallel-host-port",
        "x-kv-cache-source-host-port",
        TEST_SELECTION,
    }
)
"""What steers a picker or its sidecars and must not reach a model server from a client.

`DESTINATION` is not among them: it is always overwritten, never merely removed.
"""


def first_of(headers: Headers, names: tuple[str, ...]) -> str | None:
    """The value of the first of `names` that is present and not empty, without outer spaces."""
    for name in names:
        value = headers.get(name)
        if value and (value := value.strip()):
            return value
    return None


class HeaderChanges(msgspec.Struct, frozen=True):
    """What to change on a header block: `set` overwrites, `remove` deletes. Names in lower case."""

    set: Mapping[str, str] = {}
    remove: tuple[str, ...] = ()


NO_CHANGES: Final = HeaderChanges()
