"""The endpoints file: YAML or JSON in, endpoints out, or every problem at once."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from epp.domain.endpoint import Endpoint
from epp.errors import ConfigError

MAX_BYTES: Final = 1024 * 1024
MAX_ENDPOINTS: Final = 10_000
MAX_DEPTH: Final = 32
PROBLEMS_SHOWN: Final = 50


def _read_port(value: Any) -> Any:
    """Ports are written as numbers and as strings of digits; Go's pickers take the latter."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6:
        return int(value)
    return value


Port = Annotated[int, BeforeValidator(_read_port), Field(ge=1, le=65535, strict=True)]
Text = Annotated[str, Field(strict=True, max_length=253)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[Text, Field(min_length=1)]
    namespace: Annotated[Text, Field(min_length=1)] = "default"
    address: Annotated[Text, Field(min_length=1)]
    port: Port
    labels: dict[Text, Text] = {}


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoints: Annotated[list[_Entry], Field(max_length=MAX_ENDPOINTS)]


_FIXES: Final[Mapping[str, str]] = {
    "missing": "add it",
    "extra_forbidden": "remove it; known are name, namespace, address, port, labels",
    "string_type": "write a string, in quotes if it looks like a number",
    "int_type": "write a number from 1 to 65535",
    "greater_than_equal": "write a number from 1 to 65535",
    "less_than_equal": "write a number from 1 to 65535",
    "string_too_short": "it must not be empty",
    "list_type": "write a list, each item beginning with a dash",
    "dict_type": "write label: value pairs",
    "model_type": "write fields: name, address, port",
}


def parse_endpoints(data: bytes, source: str) -> tuple[Endpoint, ...]:
    """The endpoints that `data` lists; a host may be an IP address or a name.

    `source` names the file in messages. Raises `ConfigError` with every problem, each with the path
    of its field and the fix.
    """
    if len(data) > MAX_BYTES:
        raise ConfigError([f"{source}: {len(data)} bytes; the most is {MAX_BYTES}"])
    document = _load(data, source)
    try:
        entries = _File.model_validate(document).endpoints
    except ValidationError as error:
        raise ConfigError(_problems(error, source)) from None
    problems = [*_bad_addresses(entries, source), *_duplicates(entries, source)]
    if problems:
        raise ConfigError(problems[:PROBLEMS_SHOWN])
    return tuple(_endpoint(entry) for entry in entries)


def is_ip(host: str) -> bool:
    """Whether `host` is an IPv4 or IPv6 address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _load(data: bytes, source: str) -> Any:
    # JSON is YAML but for tabs between values. The C loader is ten times faster; both are safe.
    if data.lstrip().startswith(b"{"):
        data = data.replace(b"\t", b" ")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_depth(data, loader, source)
        return yaml.load(data, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        why = getattr(error, "problem", None) or type(error).__name__
        raise ConfigError([f"{source}: {where}not YAML or JSON: {why}"]) from None


def _check_depth(data: bytes, loader: Any, source: str) -> None:
    # The C loader descends without a limit of its own: deep nesting ends the process.
    depth = 0
    for event in yaml.parse(data, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ConfigError([f"{source}: nested deeper than {MAX_DEPTH}; write a flat list"])


def _problems(error: ValidationError, source: str) -> list[str]:
    return [
        f"{source}: {_path(one['loc'])}: {_wrong(one['loc'], one['type'], one['msg'])}"
        for one in error.errors(include_input=False, include_url=False)[:PROBLEMS_SHOWN]
    ]


def _wrong(location: Sequence[str | int], kind: str, message: str) -> str:
    """What is wrong there, and the fix; the file itself has other fields than its endpoints."""
    if not location:
        return "is no mapping; begin with endpoints: and list them below"
    if kind == "extra_forbidden" and len(location) == 1:
        return "is no field of this file, which has one, endpoints; remove it"
    return f"{message}; {_FIXES.get(kind, 'correct it')}"


def _path(location: Sequence[str | int]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path or "the file"


def _bad_addresses(entries: Sequence[_Entry], source: str) -> list[str]:
    return [
        f"{source}: endpoints[{number}].address: {entry.address!r} is no IP address or host name; "
        "write it without scheme, port or brackets"
        for number, entry in enumerate(entries)
        if not _is_host(entry.address)
    ]


def _is_host(text: str) -> bool:
    if is_ip(text):
        return True
    labels = text.rstrip(".").split(".")
    named = all(
        0 < len(label) < 64
        and label.replace("-", "a").replace("_", "a").isalnum()
        and label.isascii()
        and label[0] != "-"
        and label[-1] != "-"
        for label in labels
    )
    # 10.0.0.300 and 10.0.1 are slips, not names: no top-level domain is a number.
    return named and not labels[-1].isdigit()


def _duplicates(entries: Sequence[_Entry], source: str) -> list[str]:
    problems = []
    names: dict[tuple[str, str], int] = {}
    addresses: dict[tuple[str, int], int] = {}
    for number, entry in enumerate(entries):
        here = f"{source}: endpoints[{number}]"
        if (first := names.setdefault((entry.namespace, entry.name), number)) != number:
            problems.append(f"{here}.name: {entry.name!r} is endpoints[{first}] too; rename one")
        if (first := addresses.setdefault((entry.address, entry.port), number)) != number:
            where = f"{entry.address} port {entry.port}"
            problems.append(f"{here}.address: {where} is endpoints[{first}] too; remove one")
    return problems


def _endpoint(entry: _Entry) -> Endpoint:
    return Endpoint(
        name=entry.name,
        namespace=entry.namespace,
        host=str(ipaddress.ip_address(entry.address)) if is_ip(entry.address) else entry.address,
        port=entry.port,
        labels=entry.labels,
        pod=entry.name,
    )
