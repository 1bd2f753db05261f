"""Builders of ext_proc messages, and tickets and paths that remember what they were told."""

from collections.abc import Mapping

from epp.domain.headers import LB_NAMESPACE, NO_CHANGES, SERVED, SUBSET, SUBSET_NAMESPACE
from epp.domain.path import Intake
from epp.wire.gen.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from epp.wire.gen.processing_mode_pb2 import ProcessingMode

CHAT = "/v1/chat/completions"


def modes(message: ProcessingRequest, request: str, response: str) -> ProcessingRequest:
    """Announce body modes by name, as the first message of a stream does."""
    message.protocol_config.request_body_mode = ProcessingMode.BodySendMode.Value(request)
    message.protocol_config.response_body_mode = ProcessingMode.BodySendMode.Value(response)
    return message


def request_headers(
    headers: Mapping[str, str] | None = None,
    *,
    path: str = CHAT,
    method: str = "POST",
    end: bool = False,
    hint: object = None,
) -> ProcessingRequest:
    message = ProcessingRequest()
    block = {":method": method, ":path": path, ":authority": "gateway", **(headers or {})}
    for name, value in block.items():
        message.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    message.request_headers.end_of_stream = end
    return hinted(message, hint)


def request_body(data: bytes = b"", *, end: bool = False, hint: object = None) -> ProcessingRequest:
    message = ProcessingRequest()
    message.request_body.body = data
    message.request_body.end_of_stream = end
    return hinted(message, hint)


def request_trailers() -> ProcessingRequest:
    message = ProcessingRequest()
    message.request_trailers.SetInParent()
    return message


def response_headers(
    status: int = 200, *, end: bool = False, served: str | None = None, **headers: str
) -> ProcessingRequest:
    message = ProcessingRequest()
    for name, value in {":status": str(status), **headers}.items():
        message.response_headers.headers.headers.add(key=name, raw_value=value.encode())
    message.response_headers.end_of_stream = end
    if served is not None:
        message.metadata_context.filter_metadata[LB_NAMESPACE].update({SERVED: served})
    return message


def response_body(data: bytes = b"", *, end: bool = False) -> ProcessingRequest:
    message = ProcessingRequest()
    message.response_body.body = data
    message.response_body.end_of_stream = end
    return message


def response_trailers() -> ProcessingRequest:
    message = ProcessingRequest()
    message.response_trailers.SetInParent()
    return message


def hinted(message: ProcessingRequest, hint: object) -> ProcessingRequest:
    """Put `hint` (a list or a string) where a gateway puts its subset."""
    if hint is not None:
        message.metadata_context.filter_metadata[SUBSET_NAMESPACE].update({SUBSET: hint})
    return message


def read(reply: bytes) -> ProcessingResponse:
    return ProcessingResponse.FromString(reply)


def headers_set(mutation) -> dict[str, str]:
    return {option.header.key: option.header.raw_value.decode() for option in mutation.set_headers}


class RecordingTicket:
    """A placed request that notes what it hears."""

    def __init__(
        self, destination="10.0.0.1:8000", *, changes=NO_CHANGES, body=None, metadata=None
    ):
        self.destination = destination
        self.changes = changes
        self.body = body
        self.metadata = metadata or {}
        self.response_changes = NO_CHANGES
        self.through = lambda data, end: data
        self.last_words = {}
        self.heard: list[object] = []
        self.endings: list[object] = []

    def sent(self):
        self.body = None

    def response_started(self, head):
        self.heard.append(head)
        return self.response_changes

    def response_chunk(self, data, end):
        self.heard.append((data, end))
        return self.through(data, end)

    def response_metadata(self):
        return self.last_words

    def ended(self, ending):
        self.endings.append(ending)


class RecordingPath:
    """Answers every request with `answer(intake)`: a ticket, an awaitable, or what it raises."""

    def __init__(self, answer=None):
        self.tickets: list[RecordingTicket] = []
        self.intakes: list[Intake] = []
        self._answer = answer

    def decide(self, intake):
        self.intakes.append(intake)
        if self._answer is not None:
            return self._answer(intake)
        return self.ticket()

    def ticket(self, **fields):
        self.tickets.append(RecordingTicket(**fields))
        return self.tickets[-1]
