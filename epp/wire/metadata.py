"""What the gateway says in metadata: the endpoints to choose from, and the one that answered."""

from collections.abc import Iterator

from google.protobuf.struct_pb2 import Value

from epp.domain.endpoint import join_address, split_address
from epp.domain.headers import LB_NAMESPACE, SERVED, SUBSET, SUBSET_NAMESPACE
from epp.domain.request import SubsetHint
from epp.wire.gen.base_pb2 import Metadata


def subset_in(metadata: Metadata) -> SubsetHint | None:
    """The subset hint, or None where the key is absent.

    The value is a list of addresses, a comma string, or a list of comma strings; what cannot be
    read as an address is dropped, so a hint without a readable address allows nothing.
    """
    value = _value(metadata, SUBSET_NAMESPACE, SUBSET)
    if value is None:
        return None
    found = (_member(text) for text in _texts(value) if text.strip())
    return SubsetHint(tuple(member for member in found if member is not None))


def served_in(metadata: Metadata) -> str | None:
    """`host:port` of the endpoint that answered, as the gateway reports it."""
    value = _value(metadata, LB_NAMESPACE, SERVED)
    if value is None or not (text := value.string_value.strip()):
        return None
    host, port = _member(text) or (text, None)
    return text if port is None else join_address(host, port)


def _value(metadata: Metadata, namespace: str, key: str) -> Value | None:
    if namespace not in metadata.filter_metadata:
        return None
    fields = metadata.filter_metadata[namespace].fields
    return fields.get(key)


def _texts(value: Value) -> Iterator[str]:
    """Single addresses of a comma string or a list of comma strings; other kinds hold none."""
    if value.WhichOneof("kind") == "list_value":
        for member in value.list_value.values:
            yield from member.string_value.split(",")
    else:
        yield from value.string_value.split(",")


def _member(text: str) -> tuple[str, int | None] | None:
    try:
        return split_address(text)
    except ValueError:
        return None
