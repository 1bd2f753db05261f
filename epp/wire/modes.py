"""Which processing mode a stream is in, and which modes cannot be served."""

from typing import Final

import msgspec

from epp.domain.response import ResponseMode
from epp.errors import ProtocolFault
from epp.wire.gen.external_processor_pb2 import ProcessingRequest
from epp.wire.gen.processing_mode_pb2 import ProcessingMode

NONE: Final = ProcessingMode.NONE
STREAMED: Final = ProcessingMode.STREAMED
BUFFERED: Final = ProcessingMode.BUFFERED
BUFFERED_PARTIAL: Final = ProcessingMode.BUFFERED_PARTIAL
DUPLEX: Final = ProcessingMode.FULL_DUPLEX_STREAMED

_REQUEST_MODES: Final = (NONE, BUFFERED, DUPLEX)
_RESPONSE_MODES: Final = (NONE, STREAMED, BUFFERED, BUFFERED_PARTIAL, DUPLEX)


class UnservedMode(ProtocolFault):
    """The filter is configured in a way that cannot be served; the message names the setting."""


class Modes(msgspec.Struct, frozen=True):
    """The body modes of one stream, as Envoy's `BodySendMode` numbers."""

    request: int = DUPLEX
    response: int = DUPLEX

    @property
    def sees(self) -> ResponseMode:
        """How much of the response comes by.

        Watch and forget announce themselves alike: forget is a watch whose stream ends at the
        response's headers.
        """
        return ResponseMode.WATCH if self.response == NONE else ResponseMode.FULL


_DUPLEX_BOTH: Final = Modes()


def modes_of(first: ProcessingRequest) -> Modes:
    """The modes a stream's first message announces; duplex both ways where it announces nothing.

    Raises UnservedMode.
    """
    if first.observability_mode:
        raise UnservedMode("observability_mode must be off: Envoy ignores answers in it")
    if not first.HasField("protocol_config"):
        return _DUPLEX_BOTH
    config = first.protocol_config
    modes = Modes(config.request_body_mode, config.response_body_mode)
    if modes.request not in _REQUEST_MODES:
        raise UnservedMode(
            f"request_body_mode {_name(modes.request)} cannot be served: an endpoint is chosen by "
            "the whole body; set FULL_DUPLEX_STREAMED or BUFFERED"
        )
    if modes.response not in _RESPONSE_MODES:
        raise UnservedMode(
            f"response_body_mode {_name(modes.response)} cannot be served; set "
            "FULL_DUPLEX_STREAMED or NONE"
        )
    return modes


def _name(mode: int) -> str:
    """The name of a body mode, or its number where we know no name."""
    try:
        return ProcessingMode.BodySendMode.Name(mode)
    except ValueError:
        return str(mode)
