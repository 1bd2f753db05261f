"""What the scraper is told in the plugin section of a configuration."""

from typing import ClassVar, Literal

from pydantic import Field

from epp.config.params import PluginParams
from epp.config.units import Duration


class MetricsDataSource:
    """metrics-data-source: where and how the endpoints' metrics are read.

    Formula: GET scheme://endpoint:port/path, at an interval that adapts where none is given.
    Parameters: scheme (http or https, default http), path (default /metrics), port (default: the
    endpoint's own), insecureSkipVerify (default true), caCertPath, clientCertPath, clientKeyPath
    (default none), interval (Go duration such as 200ms; default: adapts to load).
    Writes: waiting, running, kv_usage, age, fresh and what else the extractor finds.
    Example:
        - type: metrics-data-source
          parameters: {port: 9090, interval: 100ms}
    """

    type: ClassVar[str] = "metrics-data-source"
    point: ClassVar[str] = "data-source"

    class Params(PluginParams):
        scheme: Literal["http", "https"] = "http"
        path: str = Field("/metrics", pattern="^/")
        port: int | None = Field(None, ge=1, le=65535)
        insecure_skip_verify: bool = True
        ca_cert_path: str = ""
        client_cert_path: str = ""
        client_key_path: str = ""
        interval: Duration | None = None

    def __init__(self, params: Params) -> None:
        self.params = params


class CustomMetric(PluginParams):
    """A metric family that becomes a column."""

    attribute_key: str = Field(min_length=1)
    metric_spec: str = Field(min_length=1)


class EngineMetrics(PluginParams):
    """The names of one engine's metric families: `family` or `family{label=value,...}`."""

    name: str = Field(min_length=1)
    queued_requests_spec: str = ""
    running_requests_spec: str = ""
    kv_usage_spec: str = ""
    lora_spec: str = ""
    cache_info_spec: str = ""
    cache_block_size_label_name: str = ""
    cache_num_blocks_label_name: str = ""
    cache_block_size_spec: str = ""
    cache_num_blocks_spec: str = ""
    custom_metrics: list[CustomMetric] = Field(default_factory=list)

    @property
    def adds_only(self) -> bool:
        """Whether it has custom metrics, and nothing else."""
        others = self.model_dump(exclude={"name", "custom_metrics"})
        return bool(self.custom_metrics) and not any(others.values())


class CoreMetricsExtractor:
    """core-metrics-extractor: which metric families of an engine become which columns.

    Formula: the engine is the pod's label engineLabelKey, else defaultEngine, else what the page
    looks like; engineConfigs adds engines or overrides their names. One with customMetrics alone
    adds them to what a built-in engine has; under a second source, to what the engine's page says.
    Parameters: engineLabelKey (default llm-d.ai/engine-type, and the older
    inference.networking.k8s.io/engine-type), defaultEngine (default vllm), engineConfigs (list of
    names by engine, default none).
    Writes: waiting, running, kv_usage, lora, kv_blocks, block_size and custom columns.
    Example:
        - type: core-metrics-extractor
          parameters:
            engineConfigs: [{name: mine, queuedRequestsSpec: "mine:queue{kind=gpu}"}]
    """

    type: ClassVar[str] = "core-metrics-extractor"
    point: ClassVar[str] = "extractor"

    class Params(PluginParams):
        engine_label_key: str = "llm-d.ai/engine-type"
        default_engine: str = "vllm"
        engine_configs: list[EngineMetrics] = Field(default_factory=list)

        @property
        def adds_only(self) -> bool:
            """Whether it names custom metrics alone: the page may be another than the engine's."""
            return bool(self.engine_configs) and all(e.adds_only for e in self.engine_configs)

    def __init__(self, params: Params) -> None:
        self.params = params


class TopologyExtractor:
    """topology-extractor: where an endpoint runs, for topology affinity.

    Formula: the labels kubernetes.io/hostname and topology.kubernetes.io/rack, zone and region,
    which topology affinity reads from the endpoint itself; this type is there so that
    configurations may name it.
    Parameters: none.
    Reads: labels.
    Example:
        - type: topology-extractor
    """

    type: ClassVar[str] = "topology-extractor"
    point: ClassVar[str] = "extractor"
    unnamed: ClassVar[bool] = True
    """No source has to name it: labels are there without."""
