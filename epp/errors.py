"""Every failure we raise, with the status and reason a client sees.

EppError
+-- Refused                  becomes an answer to the client (wire/messages.py writes it)
|   +-- BadRequest           400  unreadable body, missing model or prompt, bad value
|   +-- TooLarge             413  body, depth or headers over the limit
|   +-- NotCached            412  asked for where its prompt is cached, and that is nowhere
|   +-- NoEndpoints          503  none ready, none in the subset, all filtered away
|   +-- Overloaded           503  held bodies over budget, the picker at its ceiling
|   +-- Saturated            429  sheddable and the pool is saturated
|   +-- QueueFull            429  no room in the queue; 503 while no endpoint is ready
|   +-- Evicted              429  taken back for work of higher priority
|   +-- Expired              429  waited longer than its budget; 503 while no endpoint is ready
|   +-- InternalFault        500  our own fault; carries an id that the log has too
+-- ConfigError              a configuration that cannot be used; carries all its problems
+-- CannotListen             a port that cannot be had; names its flag
+-- ProtocolFault            the gateway speaks in a way we cannot serve; ends the gRPC stream
"""

from collections.abc import Sequence
from typing import ClassVar


class EppError(Exception):
    """The root of what we raise on purpose."""


class Refused(EppError):
    """A request that will not be placed. `retry_after` is in whole seconds, None for no header.

    The message is shown to the client: it never carries any part of a prompt.
    """

    status: ClassVar[int] = 500
    reason: ClassVar[str] = ""
    """Value of `x-llm-d-request-dropped-reason`; empty for no header."""
    code: ClassVar[str] = "Internal"
    """The Go picker's name for it, the `error_code` label of the metrics."""

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class BadRequest(Refused):
    """Something in the request cannot be read; the message names the field and the fix."""

    status = 400
    code = "BadRequest"


class TooLarge(Refused):
    """Over a limit; the message names the limit."""

    status = 413
    code = "PayloadTooLarge"


class NotCached(Refused):
    """The client wants an answer only from where its prompt is cached."""

    status = 412
    code = "PreconditionFailed"


class NoEndpoints(Refused):
    """Nothing to choose from."""

    status = 503
    reason = "no-endpoints"
    code = "ServiceUnavailable"

    def __init__(self, message: str, retry_after: int | None = 1) -> None:
        super().__init__(message, retry_after)


class Overloaded(Refused):
    """The picker itself is out of room."""

    status = 503
    reason = "overloaded"
    code = "ServiceUnavailable"

    def __init__(self, message: str, retry_after: int | None = 1) -> None:
        super().__init__(message, retry_after)


class Saturated(Refused):
    """Sheddable work while the pool has no room."""

    status = 429
    reason = "rejected-saturated"
    code = "ResourceExhausted"

    def __init__(self, message: str, retry_after: int | None = 1) -> None:
        super().__init__(message, retry_after)


class QueueFull(Refused):
    """No room to wait in."""

    status = 429
    reason = "rejected-capacity"
    code = "ResourceExhausted"

    def __init__(self, message: str, retry_after: int | None = 1) -> None:
        super().__init__(message, retry_after)


class QueueFullWithoutEndpoints(QueueFull):
    """No room to wait in, and no endpoint is ready."""

    status = 503
    reason = "no-endpoints"
    code = "ServiceUnavailable"


class Evicted(Refused):
    """Sheddable, placed, and taken back before its response began."""

    status = 429
    reason = "evicted"
    code = "ResourceExhausted"

    def __init__(self, message: str, retry_after: int | None = 1) -> None:
        super().__init__(message, retry_after)


class Expired(Refused):
    """Waited longer than allowed while endpoints were there."""

    status = 429
    reason = "expired"
    code = "ResourceExhausted"

    def __init__(self, message: str, retry_after: int | None = 1) -> None:
        super().__init__(message, retry_after)


class ExpiredWithoutEndpoints(Expired):
    """Waited longer than allowed and no endpoint was ready."""

    status = 503
    code = "ServiceUnavailable"


class InternalFault(Refused):
    """A bug or a broken plugin; `fault_id` is what the log line carries too.

    Its `__cause__` is what was raised, whose text may quote a prompt: only its type and the places
    in its traceback may be shown.
    """

    status = 500
    code = "Internal"

    def __init__(self, fault_id: str) -> None:
        super().__init__(f"internal error {fault_id}")
        self.fault_id = fault_id


class ConfigError(EppError):
    """A configuration that cannot be used; `problems` holds every one, each with path and fix."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class CannotListen(EppError, OSError):
    """A port or socket that cannot be had; the message names the flag, the place, the reason."""

    def __init__(self, flag: str, where: int | str, why: OSError) -> None:
        super().__init__(f"{flag} {where}: cannot listen: {why.strerror or why}")


class ProtocolFault(EppError):
    """The peer asks for a processing mode or an order of messages that cannot be served."""
