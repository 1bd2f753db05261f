"""The handler of disaggregated serving: decode, prefill and encode on endpoints of their own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final, Literal

from pydantic import Field, model_validator

from epp.config.params import PluginParams, Reference, ToProducer, ToProfile
from epp.domain.decision import Decision, ProfileResult
from epp.domain.headers import HeaderChanges
from epp.domain.pool import PoolView
from epp.domain.request import Request
from epp.plugins.facts import PEER, VERDICTS, verdict

PREFILLER: Final = "x-prefiller-host-port"
ENCODERS: Final = "x-encoder-hosts-ports"


class Stages(PluginParams):
    """Which profile runs each stage."""

    decode: str = Field(default="decode", min_length=1)
    prefill: str = Field(default="prefill", min_length=1)
    encode: str = Field(default="encode", min_length=1)


class Deciders(PluginParams):
    """Which plugin decides whether a stage runs; empty for never."""

    prefill: str = ""
    encode: str = ""


class DisaggProfileHandler:
    """disagg-profile-handler: picks endpoints for decode, and where decided for prefill and encode.

    Formula: decode-first: decode; then encode and prefill, each if its decider says yes for the
    decode endpoint. prefill-first: prefill; then encode if decided; then decode. The decode pick is
    the destination. A stage that finds no endpoint is left out.
    Parameters: profiles (decode, prefill and encode, by default called so), deciders (prefill and
    encode: names of plugins, default none), stageOrder (decode-first or prefill-first, default the
    first; prefill-first takes no prefill decider).
    Reads: verdicts of the deciders. Writes: request headers x-prefiller-host-port (first prefill
    endpoint) and x-encoder-hosts-ports (all encode endpoints); the peer for topology affinity.
    Differs from the Go picker: a decode stage without an endpoint is answered with 503, not 429.
    Example:
        - type: prefix-based-pd-decider
          parameters: {nonCachedTokens: 512}
        - type: disagg-profile-handler
          parameters: {deciders: {prefill: prefix-based-pd-decider}}
    """

    type: ClassVar[str] = "disagg-profile-handler"

    class Params(PluginParams):
        profiles: Stages = Field(default_factory=Stages)
        deciders: Deciders = Field(default_factory=Deciders)
        stage_order: Literal["decode-first", "prefill-first"] = "decode-first"

        @model_validator(mode="after")
        def _prefill_first_always_prefills(self) -> "DisaggProfileHandler.Params":
            if self.stage_order == "prefill-first" and self.deciders.prefill:
                raise ValueError("prefill-first always prefills: remove `deciders.prefill`")
            return self

        def refers(self) -> Iterator[Reference]:
            yield ToProfile(("profiles", "decode"), self.profiles.decode)
            if self.deciders.prefill or self.stage_order == "prefill-first":
                yield ToProfile(("profiles", "prefill"), self.profiles.prefill)
            if self.deciders.encode:
                yield ToProfile(("profiles", "encode"), self.profiles.encode)
            for stage in ("prefill", "encode"):
                if decider := getattr(self.deciders, stage):
                    yield ToProducer(("deciders", stage), decider, VERDICTS.name)

    def __init__(self, params: Params) -> None:
        self._stages = params.profiles
        self._deciders = params.deciders
        self._decode_first = params.stage_order == "decode-first"

    def next_profiles(
        self, request: Request, results: Mapping[str, ProfileResult | None], names: Sequence[str]
    ) -> Sequence[str]:
        for stage in self._plan(request, results):
            if stage in names and stage not in results:
                return (stage,)
        return ()

    def primary(self, results: Mapping[str, ProfileResult | None]) -> str:
        return self._stages.decode

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> HeaderChanges | None:
        return stage_headers(decision, self._stages)

    def _plan(self, request: Request, results: Mapping[str, ProfileResult | None]) -> Iterator[str]:
        """The stages in order, as far as the results so far tell."""
        first = self._stages.decode if self._decode_first else self._stages.prefill
        yield first
        result = results.get(first)
        if result is None and self._decode_first:
            return
        if result is not None:
            request.facts.put(PEER, result.picked[0])
            if self._wants(self._deciders.encode, request, result):
                yield self._stages.encode
            if self._decode_first and self._wants(self._deciders.prefill, request, result):
                yield self._stages.prefill
        yield self._stages.decode

    def _wants(self, decider: str, request: Request, result: ProfileResult) -> bool:
        return bool(decider) and verdict(request, decider, result.picked[0])


class DisaggHeadersHandler:
    """disagg-headers-handler: sets the headers of the prefill and encode picks; deprecated.

    Formula: as disagg-profile-handler, which does it by itself, for profiles called prefill and
    encode.
    Parameters: none.
    Writes: request headers x-prefiller-host-port and x-encoder-hosts-ports.
    Example:
        - type: disagg-headers-handler
    """

    type: ClassVar[str] = "disagg-headers-handler"
    deprecated: ClassVar[str] = "disagg-profile-handler sets the headers: remove it"

    def picked(self, request: Request, pool: PoolView, decision: Decision) -> HeaderChanges | None:
        return stage_headers(decision, Stages())


def stage_headers(decision: Decision, stages: Stages) -> HeaderChanges | None:
    """Where prefill and encode of the request run, for the sidecar beside the decode endpoint."""
    headers = {}
    for result in decision.others:
        if not result.picked:
            continue
        if result.profile == stages.prefill:
            headers[PREFILLER] = result.picked[0].address
        elif result.profile == stages.encode:
            headers[ENCODERS] = ",".join(endpoint.address for endpoint in result.picked)
    return HeaderChanges(set=headers) if headers else None
