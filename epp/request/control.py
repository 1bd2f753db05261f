"""The control headers that say whose request it is and which model it shall have."""

from epp.domain.headers import FAIRNESS_ID, MODEL_REWRITE, OBJECTIVE, Headers, first_of
from epp.errors import BadRequest
from epp.request.limits import Limits


def objective(headers: Headers, limits: Limits) -> str:
    """Name of the objective the client asks for, empty for none."""
    return _value(headers, OBJECTIVE, limits.header_chars)


def fairness_id(headers: Headers, limits: Limits) -> str:
    """The flow the request is counted to, empty for none."""
    return _value(headers, FAIRNESS_ID, limits.header_chars)


def model_rewrite(headers: Headers, limits: Limits) -> str:
    """The model to ask the server for instead of the client's, empty for none."""
    return _value(headers, MODEL_REWRITE, limits.model_chars)


def _value(headers: Headers, names: tuple[str, ...], most: int) -> str:
    value = first_of(headers, names)
    if value is None:
        return ""
    if len(value) > most:
        raise BadRequest(f"header {names[0]}: longer than {most} characters; shorten it")
    if not value.isprintable():
        raise BadRequest(f"header {names[0]}: control characters; send printable text")
    return value
