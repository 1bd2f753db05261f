"""What a configuration may say of discovery."""

from typing import Any, ClassVar, Final

from pydantic import Field

from epp.config.params import PluginParams


class FileDiscoveryPlugin:
    """file-discovery: endpoints come from a file, which is watched if asked.

    Parameters: path (YAML or JSON with a list `endpoints`), watchFile (default false).
    Writes: the endpoints of the pool.
    Example:
        - type: file-discovery
          parameters: {path: /etc/epp/endpoints.yaml, watchFile: true}
    """

    type: ClassVar[str] = "file-discovery"
    point: ClassVar[str] = "discovery"

    class Params(PluginParams):
        path: str = Field(min_length=1)
        watch_file: bool = False

    def __init__(self, params: Params) -> None:
        self.params = params


PLUGINS: Final[tuple[type[Any], ...]] = (FileDiscoveryPlugin,)
