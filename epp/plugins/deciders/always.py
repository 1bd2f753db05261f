"""The deciders that do not look at caches."""

import re
from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np

from epp.domain.pool import Column, PoolView
from epp.domain.request import Request
from epp.plugins.facts import VERDICTS, give_verdict
from epp.points import Tools

MEDIA: Final = (b'"image_url"', b'"input_image"', b'"input_audio"', b'"video_url"', b'"audio_url"')
"""Types of message parts that need an encoder. Within a string of JSON their quotes are escaped."""
ANTHROPIC_IMAGE: Final = re.compile(rb'"type"\s*:\s*"image"')
"""The word alone is as well a name in a tool's schema."""


class AlwaysDisaggPdDecider:
    """always-disagg-pd-decider: prefills every request elsewhere.

    Formula: yes for every request and endpoint.
    Parameters: none.
    Writes: its verdict, which disagg-profile-handler reads.
    Example:
        - type: always-disagg-pd-decider
    """

    type: ClassVar[str] = "always-disagg-pd-decider"
    produces_named: ClassVar[tuple[str, ...]] = (VERDICTS.name,)

    def __init__(self, tools: Tools) -> None:
        self._name = tools.name

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        give_verdict(request, self._name, pool.endpoints, np.ones(len(pool), dtype=np.bool_))
        return {}


class AlwaysDisaggMultimodalDecider:
    """always-disagg-multimodal-decider: encodes elsewhere what has images, audio or video.

    Formula: yes where the messages have a part of a media type.
    Parameters: none.
    Reads: prompts. Writes: its verdict, which disagg-profile-handler reads.
    Example:
        - type: always-disagg-multimodal-decider
    """

    type: ClassVar[str] = "always-disagg-multimodal-decider"
    produces_named: ClassVar[tuple[str, ...]] = (VERDICTS.name,)

    def __init__(self, tools: Tools) -> None:
        self._name = tools.name

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        media = any(prompt.items or _has_media(prompt.text) for prompt in request.prompts)
        give_verdict(request, self._name, pool.endpoints, np.full(len(pool), media))
        return {}


def _has_media(text: bytes) -> bool:
    return any(kind in text for kind in MEDIA) or ANTHROPIC_IMAGE.search(text) is not None
