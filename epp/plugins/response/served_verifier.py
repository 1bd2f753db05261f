"""The check that the gateway says who answered."""

from typing import ClassVar, Final

from epp.domain.decision import Decision
from epp.domain.headers import HeaderChanges
from epp.domain.request import Request
from epp.domain.response import ResponseHead

SERVED_SHOWN: Final = "x-conformance-test-served-endpoint"
MISSING: Final = "fail: missing destination endpoint served metadata"


class DestinationEndpointServedVerifier:
    """destination-endpoint-served-verifier: shows a conformance test which endpoint answered.

    Formula: response header x-conformance-test-served-endpoint = the address the gateway reports in
    its metadata, or a text that begins with "fail:".
    Parameters: none.
    Reads: served endpoint. Writes: response header x-conformance-test-served-endpoint.
    Example:
        - type: destination-endpoint-served-verifier
    """

    type: ClassVar[str] = "destination-endpoint-served-verifier"

    def response_started(
        self, request: Request, decision: Decision, head: ResponseHead
    ) -> HeaderChanges:
        return HeaderChanges(set={SERVED_SHOWN: head.served or MISSING})
