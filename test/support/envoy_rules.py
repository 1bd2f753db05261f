"""What Envoy's ext_proc filter accepts from a processor: a model to hold replies against.

It knows which answers are owed and which may come unasked, per direction and body mode, and raises
AssertionError for anything Envoy would end the stream over (and answer its client with a 500).
"""

DUPLEX, BUFFERED, STREAMED, NONE = "FULL_DUPLEX_STREAMED", "BUFFERED", "STREAMED", "NONE"


class Direction:
    """One direction: what was sent to the processor, and what may come back now."""

    def __init__(self, mode):
        self.mode = mode
        self.headers_owed = False
        self.bodies_owed = 0
        self.trailers_owed = False
        self.headers_answered = False
        self.body_sent = False
        self.body_end_sent = False
        self.end_answered = False
        self.trailers_sent = False
        self.trailers_answered = False

    def sent(self, kind, end):
        """Note what the gateway sent: `headers`, `body` or `trailers`."""
        if kind == "headers":
            self.headers_owed = True
            self.body_end_sent = end
        elif kind == "body":
            self.body_sent = True
            self.body_end_sent = self.body_end_sent or end
            self.bodies_owed += self.mode != DUPLEX
        else:
            self.trailers_sent = self.trailers_owed = True

    def answered(self, kind, common):
        """Take one reply of the processor's, or raise AssertionError."""
        {"headers": self._headers, "body": self._body, "trailers": self._trailers}[kind](common)

    def _headers(self, common):
        assert self.headers_owed, "headers answered unasked"
        assert not common.HasField("body_mutation"), "headers answered with a body"
        self.headers_owed, self.headers_answered = False, True

    def _body(self, common):
        assert self.headers_answered, "body answered before headers"
        assert not self.trailers_answered, "body answered after trailers"
        kind = common.body_mutation.WhichOneof("mutation")
        if self.mode != DUPLEX:
            assert self.bodies_owed, "spurious body reply"
            assert kind != "streamed_response", "a streamed body reply outside duplex mode"
            if kind is not None and self.mode == BUFFERED:
                assert self._length_told(common) == len(common.body_mutation.body)
            self.bodies_owed -= 1
            return
        assert kind == "streamed_response", "a duplex body reply that is not streamed"
        assert self.body_sent or self.trailers_sent, "spurious body reply"
        assert not self.end_answered, "body after its end of stream"
        piece = common.body_mutation.streamed_response
        assert len(piece.body) <= 62_000, "a piece over 62,000 bytes"
        if piece.end_of_stream:
            assert self.body_end_sent, "end of stream before the gateway sent one"
            assert not self.trailers_sent, "end of stream although trailers follow"
            self.end_answered = True

    def _length_told(self, common):
        """Envoy refuses a changed body whose length is not told with it."""
        told = [
            int(option.header.raw_value)
            for option in common.header_mutation.set_headers
            if option.header.key == "content-length"
        ]
        return told[0] if told else None

    def _trailers(self, _):
        assert self.trailers_owed, "trailers answered unasked"
        assert self.headers_answered, "trailers answered before headers"
        assert not self.bodies_owed, "trailers answered before the body"
        self.trailers_owed, self.trailers_answered = False, True

    @property
    def settled(self):
        """Nothing is owed: no filter chain waits for the processor."""
        duplex_end = self.mode == DUPLEX and self.body_sent and self.body_end_sent
        unended = duplex_end and not (self.end_answered or self.trailers_sent)
        return not (self.headers_owed or self.bodies_owed or self.trailers_owed or unended)


class EnvoyStream:
    """Both directions of one ext_proc stream."""

    def __init__(self, request_mode, response_mode):
        self.request = Direction(request_mode)
        self.response = Direction(response_mode)
        self.refused = False
        self.routed: list[tuple[str, str]] = []

    def sent(self, message):
        """Note a message to the processor."""
        kind = message.WhichOneof("request")
        direction, _, what = kind.partition("_")
        end = getattr(getattr(message, kind), "end_of_stream", False)
        getattr(self, direction).sent(what, end)

    def answered(self, reply):
        """Take a reply, or raise AssertionError."""
        assert not self.refused, "a reply after the immediate response"
        kind = reply.WhichOneof("response")
        if kind == "immediate_response":
            assert not self.response.headers_answered, "an immediate response in mid-answer"
            self.refused = True
            return
        direction, _, what = kind.partition("_")
        body = getattr(reply, kind)
        common = body.response if what != "trailers" else None
        getattr(self, direction).answered(what, common)
        if reply.HasField("dynamic_metadata"):
            self._note_route(reply, common)

    def _note_route(self, reply, common):
        lb = reply.dynamic_metadata.fields["envoy.lb"].struct_value
        metadata = lb.fields["x-gateway-destination-endpoint"].string_value
        options = common.header_mutation.set_headers if common is not None else ()
        headers = {option.header.key: option.header.raw_value.decode() for option in options}
        self.routed.append((metadata, headers.get("x-gateway-destination-endpoint", metadata)))
