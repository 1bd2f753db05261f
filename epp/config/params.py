"""What a user wrote, as typed values: the model that plugin parameters and the schema share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from epp.config.problems import Path


@dataclass(slots=True, frozen=True)
class ToProducer:
    """A parameter that names a plugin by what it writes."""

    path: Path
    """Of the parameter below `parameters`, with the keys a configuration has."""
    name: str
    """As written; empty stands for whoever writes it, and a default producer where nobody does."""
    wants: str
    """The column or fact that is read."""


@dataclass(slots=True, frozen=True)
class ToProfile:
    """A parameter that names a scheduling profile."""

    path: Path
    """Of the parameter below `parameters`."""
    name: str


Reference: TypeAlias = ToProducer | ToProfile


class PluginParams(BaseModel):
    """Parameters of a plugin: nest a subclass named `Params` in the plugin's class.

        class QueueScorer:
            type = "queue-scorer"
            class Params(PluginParams):
                full_at: int = Field(default=8, ge=1)

    Fields are snake_case in Python and camelCase in a configuration (`fullAt`). Unknown keys and
    values of another type are refused (`"8"` is no number). Values are frozen. Every field that has
    a default may be left out.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        allow_inf_nan=False,
        defer_build=True,
    )

    def refers(self) -> Iterable[Reference]:
        """Which of these parameters name something else in the configuration."""
        return ()
