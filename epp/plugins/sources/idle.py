"""Sources that other pickers need and this one does not: accepted, so that configurations load."""

from typing import ClassVar

from pydantic import Field

from epp.config.params import PluginParams
from epp.config.units import Duration


class EndpointNotificationSource:
    """endpoint-notification-source: tells extractors of endpoints that come and go; accepted.

    Formula: none: whoever needs to know of endpoints is told without it, and
    precise-prefix-cache-producer, which configurations name as its extractor, follows them itself.
    Parameters: none.
    Example:
        - type: endpoint-notification-source
    """

    type: ClassVar[str] = "endpoint-notification-source"
    point: ClassVar[str] = "data-source"
    idle: ClassVar[str] = "endpoints are followed without it; remove it"


class K8sNotificationSource:
    """k8s-notification-source: tells extractors of objects of one kind; accepted.

    Formula: none: the objects a picker needs are watched without it, and no extractor here wants
    others.
    Parameters: group, version, kind (of the objects; accepted).
    Example:
        - type: k8s-notification-source
          parameters: {group: "", version: v1, kind: ConfigMap}
    """

    type: ClassVar[str] = "k8s-notification-source"
    point: ClassVar[str] = "data-source"
    idle: ClassVar[str] = "the objects a picker needs are watched without it; remove it"

    class Params(PluginParams):
        group: str = ""
        version: str = Field(min_length=1)
        kind: str = Field(min_length=1)

    def __init__(self, params: Params) -> None:
        self.params = params


class ModelsDataSource:
    """models-data-source: would read /v1/models of each endpoint; accepted.

    Formula: none: nothing chooses by such a list, here or elsewhere, so it is not asked for.
    Adapters are known from the metrics (lora-affinity-scorer).
    Parameters: those of metrics-data-source (scheme, path, port, insecureSkipVerify, caCertPath,
    clientCertPath, clientKeyPath, interval; accepted).
    Example:
        - type: models-data-source
    """

    type: ClassVar[str] = "models-data-source"
    point: ClassVar[str] = "data-source"
    idle: ClassVar[str] = "nothing chooses by lists of models, so they are not asked for; remove it"

    class Params(PluginParams):
        scheme: str = "http"
        path: str = "/v1/models"
        port: int | None = Field(None, ge=1, le=65535)
        insecure_skip_verify: bool = True
        ca_cert_path: str = ""
        client_cert_path: str = ""
        client_key_path: str = ""
        interval: Duration | None = None

    def __init__(self, params: Params) -> None:
        self.params = params


class ModelsDataExtractor:
    """models-data-extractor: would keep what models-data-source reads; accepted.

    Formula: none.
    Parameters: none.
    Example:
        - type: models-data-extractor
    """

    type: ClassVar[str] = "models-data-extractor"
    point: ClassVar[str] = "extractor"
    idle: ClassVar[str] = "nothing chooses by lists of models; remove it"
