"""What a configuration may say of where endpoints come from."""

from typing import ClassVar

from pydantic import Field

from epp.config.params import PluginParams


class FileDiscoveryPlugin:
    """file-discovery: endpoints come from a file, which is watched if asked.

    Formula: the pool is what the file lists; a file that cannot be read, or says something wrong,
    changes nothing. `dataLayer.discovery` names the plugin; the flag --endpoints comes before it.
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
