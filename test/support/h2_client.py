"""One HTTP/2 request over a connection of its own, in the clear."""

import asyncio

import h2.config
import h2.connection
import h2.events

LARGEST_FRAME = 16_384


async def post(
    host: str, port: int, path: str, body: bytes, *, trailers: bool = False
) -> tuple[int, bytes]:
    """Status and body of the answer to a POST of JSON, ended by trailers or by its last piece.

    Raises `ConnectionError` on a reset.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return await _Exchange(reader, writer, body, trailers).run(f"{host}:{port}", path)
    finally:
        writer.close()
        await writer.wait_closed()


class _Exchange:
    def __init__(self, reader, writer, body: bytes, trailers: bool) -> None:
        self.reader, self.writer = reader, writer
        self.trailers = trailers
        self.unsent = memoryview(body)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.status, self.answer, self.ended = 0, b"", False

    async def run(self, authority: str, path: str) -> tuple[int, bytes]:
        self.h2.initiate_connection()
        names = [(":method", "POST"), (":path", path), (":scheme", "http")]
        kind = ("content-type", "application/json")
        self.h2.send_headers(1, [*names, (":authority", authority), kind])
        while not self.ended:
            self._send_body()
            self.writer.write(self.h2.data_to_send())
            data = await self.reader.read(1 << 16)
            if not data:
                raise ConnectionError("closed before the answer ended")
            for event in self.h2.receive_data(data):
                self._hear(event)
        return self.status, self.answer

    def _send_body(self) -> None:
        while self.unsent and (room := self.h2.local_flow_control_window(1)):
            size = min(room, LARGEST_FRAME, len(self.unsent))
            last = size == len(self.unsent)
            self.h2.send_data(
                1, self.unsent[:size].tobytes(), end_stream=last and not self.trailers
            )
            self.unsent = self.unsent[size:]
            if last and self.trailers:
                self.h2.send_headers(1, [("x-checksum", "1")], end_stream=True)

    def _hear(self, event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.status = int(dict(event.headers)[b":status"])
            case h2.events.DataReceived():
                self.answer += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, 1)
            case h2.events.StreamEnded():
                self.ended = True
            case h2.events.StreamReset() if not self.ended:
                raise ConnectionError(f"stream reset: {event.error_code}")
