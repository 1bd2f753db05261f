"""Small gRPC methods to exercise a wire with: echo, repeat, one that fails, one that is silent."""

from __future__ import annotations

from dataclasses import dataclass, field

from epp.wire.calls import Call, CallError, Cancellation, Handler, Status, UnaryMethod


@dataclass
class EchoHandler:
    """Sends each message back; ends with OK when the client half-closes."""

    call: Call
    messages: list[bytes] = field(default_factory=list)
    closed: bool = False
    cancelled_for: Cancellation | None = None
    resumes: int = 0

    def message(self, data: bytes) -> None:
        self.messages.append(data)
        self.call.send(data)

    def half_closed(self) -> None:
        self.closed = True
        self.call.end()

    def cancelled(self, reason: Cancellation) -> None:
        self.cancelled_for = reason

    def resumed(self) -> None:
        self.resumes += 1

    def stopping(self) -> None:
        self.call.end()


class SilentHandler(EchoHandler):
    """Hears everything and answers nothing."""

    def message(self, data: bytes) -> None:
        self.messages.append(data)

    def half_closed(self) -> None:
        self.closed = True

    def stopping(self) -> None:
        pass


class RepeatHandler(SilentHandler):
    """Sends its one message back as often as its first byte says."""

    def half_closed(self) -> None:
        for _ in range(self.messages[0][0]):
            self.call.send(self.messages[0])
        self.call.end()


class FailingHandler(SilentHandler):
    """Raises at the first message."""

    def message(self, data: bytes) -> None:
        raise ZeroDivisionError("a fault of the handler")


@dataclass
class Recorded:
    """A method that keeps the handlers it opened."""

    make: type[EchoHandler]
    handlers: list[EchoHandler] = field(default_factory=list)

    def open(self, call: Call) -> Handler:
        handler = self.make(call)
        self.handlers.append(handler)
        return handler

    @property
    def last(self) -> EchoHandler:
        return self.handlers[-1]


def refuse(data: bytes, call: Call) -> bytes:
    raise CallError(Status.PERMISSION_DENIED, "not today: 100% née")


def mirror_metadata(data: bytes, call: Call) -> bytes:
    return repr(sorted(call.metadata)).encode()


def echo_methods() -> dict[str, Recorded | UnaryMethod]:
    return {
        "/echo.Echo/Unary": UnaryMethod(lambda data, call: data),
        "/echo.Echo/Refuse": UnaryMethod(refuse),
        "/echo.Echo/Metadata": UnaryMethod(mirror_metadata),
        "/echo.Echo/Bidi": Recorded(EchoHandler),
        "/echo.Echo/Silent": Recorded(SilentHandler),
        "/echo.Echo/Repeat": Recorded(RepeatHandler),
        "/echo.Echo/Fail": Recorded(FailingHandler),
    }
