"""The producer of token counts."""

from typing import Any, ClassVar

from pydantic import Field, field_validator

from epp.config.params import PluginParams


class TokenProducer:
    """token-producer: how prompts are counted in tokens.

    Formula: exact where the client sends token ids, else bytes of text / 4, rounded up. The parser
    has counted already; this type is there so that configurations may name it.
    Parameters: modelName (not needed to estimate), estimate (settings for images and video; they
    are accepted and count nothing yet), vllm and udsTokenizerConfig (refused).
    Writes: prompt_tokens of the request.
    Differs from the Go picker: does not call an engine to render prompts on the critical path.
    Example:
        - type: token-producer
          parameters: {estimate: {}}
    """

    type: ClassVar[str] = "token-producer"
    point: ClassVar[str] = "fact-producer"

    class Params(PluginParams):
        model_name: str = ""
        estimate: dict[str, Any] = Field(default_factory=dict)
        vllm: dict[str, Any] | None = None
        uds_tokenizer_config: dict[str, Any] | None = None

        @field_validator("vllm")
        @classmethod
        def _no_rendering(cls, _value: object) -> None:
            raise ValueError(
                "rendering by vLLM is not offered: remove `vllm`, prompts are estimated"
            )

        @field_validator("uds_tokenizer_config")
        @classmethod
        def _no_socket(cls, _value: object) -> None:
            raise ValueError(
                "a tokenizer over a Unix socket is not offered: remove `udsTokenizerConfig`"
            )

    def __init__(self, params: Params) -> None:
        self.params = params
