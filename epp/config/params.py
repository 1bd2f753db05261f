"""What every plugin's parameters share."""

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class PluginParams(BaseModel):
    """Parameters of a plugin: camelCase in the file, unknown names refused, never changed."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True
    )
