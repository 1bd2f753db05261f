"""The filters of roles in disaggregated serving, by the label `llm-d.ai/role`."""

from collections.abc import Mapping
from typing import ClassVar, Final

from epp.domain.endpoint import ROLE_LABEL
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request
from epp.plugins.filters._labels import LabelRule

DECODES: Final = frozenset({"decode", "prefill-decode", "both", "encode-prefill-decode"})
PREFILLS: Final = frozenset(
    {"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"}
)
ENCODES: Final = frozenset({"encode", "encode-prefill", "encode-prefill-decode"})


class DecodeFilter:
    """decode-filter: keeps endpoints that decode, and those without a role.

    Formula: label llm-d.ai/role is decode, prefill-decode, both or encode-prefill-decode, or there
    is none.
    Parameters: none.
    Reads: labels.
    Example:
        - type: decode-filter
    """

    type: ClassVar[str] = "decode-filter"

    def __init__(self) -> None:
        self._rule = LabelRule(_decodes)

    def filter(self, request: Request, pool: PoolView) -> Mask:
        return self._rule.mask(pool)


class PrefillFilter:
    """prefill-filter: keeps endpoints that prefill.

    Formula: label llm-d.ai/role is prefill, encode-prefill, prefill-decode, both or
    encode-prefill-decode; without the label an endpoint is dropped.
    Parameters: none.
    Reads: labels.
    Example:
        - type: prefill-filter
    """

    type: ClassVar[str] = "prefill-filter"

    def __init__(self) -> None:
        self._rule = LabelRule(_prefills)

    def filter(self, request: Request, pool: PoolView) -> Mask:
        return self._rule.mask(pool)


class EncodeFilter:
    """encode-filter: keeps endpoints that encode images, audio or video.

    Formula: label llm-d.ai/role is encode, encode-prefill or encode-prefill-decode; without the
    label an endpoint is dropped.
    Parameters: none.
    Reads: labels.
    Example:
        - type: encode-filter
    """

    type: ClassVar[str] = "encode-filter"

    def __init__(self) -> None:
        self._rule = LabelRule(_encodes)

    def filter(self, request: Request, pool: PoolView) -> Mask:
        return self._rule.mask(pool)


def _decodes(labels: Mapping[str, str]) -> bool:
    return labels.get(ROLE_LABEL, "both") in DECODES


def _prefills(labels: Mapping[str, str]) -> bool:
    return labels.get(ROLE_LABEL) in PREFILLS


def _encodes(labels: Mapping[str, str]) -> bool:
    return labels.get(ROLE_LABEL) in ENCODES
