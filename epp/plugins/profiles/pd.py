"""The older handler of prefill apart from decode, with its flat parameters."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from epp.config.params import PluginParams, Reference, ToProducer, ToProfile
from epp.domain.decision import Decision
from epp.domain.headers import HeaderChanges
from epp.domain.pool import Column, PoolView
from epp.domain.request import Request
from epp.plugins.columns import PREFIX_TOKENS, PREFIX_TOTAL, uncached_tokens
from epp.plugins.facts import VERDICTS, give_verdict
from epp.plugins.profiles.data_parallel import rank_header
from epp.plugins.profiles.disagg import Deciders, DisaggProfileHandler, Stages
from epp.points import Tools
from epp.tokens.blocks import BYTES_PER_TOKEN


class PdProfileHandler(DisaggProfileHandler):
    """pd-profile-handler: picks endpoints for decode, and where wanted for prefill; deprecated.

    Formula: as disagg-profile-handler, decode first. Prefill runs where deciderPluginName says so;
    without a decider where the part of the prompt that is not cached at the decode endpoint has
    threshold bytes of text or more (four to a token).
    Parameters: decodeProfile (default decode), prefillProfile (default prefill), deciderPluginName
    (default none), threshold (default 0: always), hashBlockSize, prefixPluginName,
    prefixPluginType (accepted, whoever knows prefixes is asked), primaryPort (default 0; above it
    the decode pick's rank is named as data-parallel-profile-handler does).
    Reads: prefix_tokens, verdicts. Writes: request headers x-prefiller-host-port and, with
    primaryPort, x-data-parallel-host-port; its own verdict.
    Example:
        - type: pd-profile-handler
          parameters: {threshold: 400}
    """

    type: ClassVar[str] = "pd-profile-handler"
    deprecated: ClassVar[str] = "use disagg-profile-handler with prefix-based-pd-decider"
    consumes: ClassVar[tuple[str, ...]] = (PREFIX_TOKENS, PREFIX_TOTAL)
    produces_named: ClassVar[tuple[str, ...]] = (VERDICTS.name,)

    class Params(PluginParams):
        decode_profile: str = Field(default="decode", min_length=1)
        prefill_profile: str = Field(default="prefill", min_length=1)
        decider_plugin_name: str = ""
        threshold: int = Field(default=0, ge=0)
        hash_block_size: int | None = None
        prefix_plugin_name: str = ""
        prefix_plugin_type: str = ""
        primary_port: int = Field(default=0, ge=0, le=65535)

        def refers(self) -> Iterator[Reference]:
            yield ToProfile(("decodeProfile",), self.decode_profile)
            yield ToProfile(("prefillProfile",), self.prefill_profile)
            if self.decider_plugin_name:
                yield ToProducer(("deciderPluginName",), self.decider_plugin_name, VERDICTS.name)

    def __init__(self, params: Params, tools: Tools) -> None:
        self._name = tools.name
        self._tokens = -(-params.threshold // BYTES_PER_TOKEN)
        self.front_port = params.primary_port
        super().__init__(
            DisaggProfileHandler.Params(
                profiles=Stages(decode=params.decode_profile, prefill=params.prefill_profile),
                deciders=Deciders(prefill=params.decider_plugin_name or tools.name),
            )
        )

    def columns(self, request: Request, pool: PoolView) -> Mapping[str, Column]:
        wanted = np.asarray(uncached_tokens(request, pool) >= self._tokens)
        give_verdict(request, self._name, pool.endpoints, wanted)
        return {}

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> HeaderChanges | None:
        stages = super().picked(request, pool, decision)
        if not self.front_port:
            return stages
        return HeaderChanges(set={**(stages.set if stages else {}), **rank_header(decision)})
