"""The producer of a prompt's tokens."""

from collections.abc import Awaitable
from typing import Any, ClassVar, Final

from pydantic import Field, field_validator

from epp.config.params import PluginParams
from epp.config.units import Duration
from epp.domain.media import BY_DEFAULT
from epp.domain.request import Request
from epp.plugins.estimate import EstimateParams
from epp.points import Tools
from epp.tokens.counting import ESTIMATE
from epp.tokens.local import LocalTokenizer
from epp.tokens.render import Renderer
from epp.tokens.renderings import MOST_TOKENS
from epp.tokens.tokenized import TOKENIZED, Tokenized, given

LOCAL_PATIENCE: Final = 0.4
SLACK: Final = 0.1
"""Seconds a request waits above the time a renderer is given: it answers late rather than never."""
OF_THE_POOL = "pool"
"""Instead of a URL: any ready endpoint of the pool renders."""


class VllmRender(PluginParams):
    """Who renders, and how long a request may wait for it."""

    url: str = Field(default="http://localhost:8000", pattern=r"^(https?://.+|pool)$")
    timeout: Duration = Field(default=0.3, gt=0)
    mm_timeout: Duration | None = None
    most_tokens: int = Field(default=MOST_TOKENS, ge=1)


class Local(PluginParams):
    """A `tokenizer.json`."""

    file: str = Field(min_length=1)


class TokenProducer:
    """token-producer: what a prompt is in the engine's own tokens.

    Formula: exact where the client sends token ids; else as `vllm` renders it or as `local`
    tokenizes it, where one of them is configured and answers in time; else bytes of text / 4,
    rounded up, which is enough for counting but not for exact matches. Told tokens are the
    request's token count from then on. Images, video and audio in messages are no text: an image
    counts width * height / 1024, by what its data says of itself, else as 640 x 360 (225 tokens);
    video 10 frames of that, or as the headers x-llm-d-video-fps, -duration-seconds and -resolution
    say; audio 14 + 12.5 a second, its length by a WAV's own word, else 16000 bytes a second, else
    10 s; none more than 131072. So it is without this plugin too.
    Parameters: modelName (accepted, the request names it), estimate (image: mode dynamic or static,
    default dynamic, defaultResolution {width, height}, dynamic.factor, static.staticToken; video:
    defaultResolution, defaultDuration, tokensPerFrame {mode, dynamic.factor,
    static.numTokensPerFrame}, frames {mode sampled or strided, minFrames, maxFrames, sampled
    {sampleFPS, temporalPatchSize}, strided {defaultSourceFPS, frameStride}}, maxVideoTokens; audio:
    mode, defaultDuration, dynamic {tokensPerSecond, overheadTokens, bytesPerSecond},
    static.numTokens, maxAudioTokens), vllm (url: of an engine, or `pool` for any of the pool,
    default http://localhost:8000; timeout: default 300ms; mmTimeout: accepted; mostTokens:
    remembered, default 4000000), local (file: a tokenizer.json, for completions; needs the package
    tokenizers), udsTokenizerConfig (refused).
    Reads: x-llm-d-video-fps, x-llm-d-video-duration-seconds, x-llm-d-video-resolution.
    Writes: tokens of the prompts, for precise-prefix-cache-producer; prompt_tokens.
    Differs from the Go picker: a rendering is waited for 300 ms instead of 5 s, and not at all for
    a conversation whose beginning is known; few renderings are asked for at a time, and none twice;
    a failure costs exactness alone.
    Example:
        - type: token-producer
          parameters: {vllm: {url: pool}}
    """

    type: ClassVar[str] = "token-producer"

    class Params(PluginParams):
        model_name: str = ""
        estimate: EstimateParams = Field(default_factory=EstimateParams)
        vllm: VllmRender | None = None
        local: Local | None = None
        uds_tokenizer_config: dict[str, Any] | None = None

        @field_validator("uds_tokenizer_config")
        @classmethod
        def _no_socket(cls, _value: object) -> None:
            raise ValueError(
                "a tokenizer over a Unix socket is not offered: use `vllm`, or remove it"
            )

    def __init__(self, params: Params, tools: Tools) -> None:
        self.params = params
        self._estimate = params.estimate.estimate()
        self.renderer: Renderer | None = None
        if (vllm := params.vllm) is not None:
            self.renderer = tools.state.keep(
                "renderer",
                lambda: Renderer(vllm.most_tokens, vllm.timeout),
                shape=f"timeout={vllm.timeout} tokens={vllm.most_tokens}",
            )
        self.patience = SLACK + vllm.timeout if vllm else LOCAL_PATIENCE
        self._local = LocalTokenizer(params.local.file) if params.local else None

    def gather(self, request: Request) -> Awaitable[None] | None:
        if self._estimate != BY_DEFAULT:
            request.facts.put(ESTIMATE, self._estimate)
        told: Tokenized | Awaitable[Tokenized | None] | None = given(request.prompts)
        if told is None and self.renderer is not None:
            told = self.renderer.tokens(request)
        if isinstance(told, Tokenized):
            request.facts.put(TOKENIZED, told)
            return None
        if told is None and self._local is None:
            return None
        return self._wait(told, request)

    async def _wait(self, told: Awaitable[Tokenized | None] | None, request: Request) -> None:
        tokens = await told if told is not None else None
        if tokens is None and self._local is not None:
            tokens = await self._local.tokens(request)
        if tokens is not None:
            request.facts.put(TOKENIZED, tokens)
