"""The file of `--config`: YAML with the flags' names, as the Go simulator reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_BYTES = 1024 * 1024
SECTIONS = ("latencies", "kvcache")
"""Mappings whose keys may as well stand at the top."""
LISTS = ("served_model_name", "lora_modules", "failure_types")


def read_config(path: str, known: Collection[str]) -> dict[str, Any]:
    """Values by parameter name (`max_num_seqs`), as if they stood on the command line.

    ValueError: the file cannot be read, is no mapping, or has a key that is no flag (`known` are
    the parameters' names).
    """
    values = {}
    for key, value in _flat(_mapping(path)):
        name = key.replace("-", "_")
        if name not in known:
            raise ValueError(f"{path}: {key!r} is no flag of vllm-sim")
        if value is not None:
            values[name] = _listed(value) if name in LISTS else _written(value)
    return values


def _mapping(path: str) -> dict[Any, Any]:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"{path} is larger than {MAX_BYTES} bytes")
        body = yaml.safe_load(data)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, RecursionError):
        raise ValueError(f"{path} is no YAML") from None
    if body is None:
        return {}
    if not isinstance(body, dict):
        raise ValueError(f"{path} must be a mapping of flags to values")
    return body


def _flat(body: dict[Any, Any]) -> list[tuple[str, Any]]:
    rows = []
    for key, value in body.items():
        if key in SECTIONS and isinstance(value, dict):
            rows += [(str(inner), one) for inner, one in value.items()]
        else:
            rows.append((str(key), value))
    return rows


def _listed(value: Any) -> list[Any]:
    return [_written(one) for one in value] if isinstance(value, list) else [_written(value)]


def _written(value: Any) -> Any:
    """A value as the command line would have it: objects are JSON there."""
    return json.dumps(value) if isinstance(value, (dict, list)) else value
