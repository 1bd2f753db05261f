"""What may stand in an `EndpointPickerConfig`, as the Go endpoint pickers read it.

Both API versions share one schema. Our one addition is `plugins[].file`: a plugin class of one's
own, loaded from a Python file. Defaults are those of the Go pickers.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator

from epp.config.params import PluginParams
from epp.config.problems import suggestion
from epp.config.units import Duration, Quantity

API_VERSIONS: Final = ("llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1")
GATES: Final = {"flowControl": False, "haPopulateNonLeaderDatastore": True}
"""Feature gates and their defaults."""
SILENT_GATES: Final = ("dataLayer", "enableLegacyMetrics", "prepareDataPlugins")
"""Gates of older pickers whose feature is always there: read, warned about, without effect."""

Name = Annotated[str, Field(min_length=1, max_length=253)]


class Block(PluginParams):
    """A mapping of the configuration: strict, frozen, camelCase outside."""


class PluginRef(Block):
    """Names a configured plugin."""

    plugin_ref: Name


class PluginEntry(Block):
    """One plugin instance; its name is its type unless given."""

    name: Name | None = None
    type: Name
    parameters: dict[str, Any] = Field(default_factory=dict)
    file: Name | None = None
    """Python file that defines the type; a relative path starts at the configuration's folder."""

    @property
    def instance(self) -> str:
        """The name that references use."""
        return self.name or self.type


class ProfilePlugin(Block):
    """A filter, scorer or picker of a profile; `weight` is a scorer's, 1 unless given."""

    plugin_ref: Name
    weight: Annotated[float, Field(ge=0)] | None = None


class SchedulingProfile(Block):
    """Filters run in the order of the list."""

    name: Name
    plugins: tuple[ProfilePlugin, ...] = ()


class Source(Block):
    """A data source and what is read out of what it brings."""

    plugin_ref: Name
    extractors: tuple[PluginRef, ...] = ()


class DataLayer(Block):
    """Where knowledge about endpoints comes from."""

    inject_defaults: bool = True
    sources: tuple[Source, ...] = ()
    discovery: PluginRef | None = None
    peer_discovery: PluginRef | None = None
    cross_replica_syncer_plugin_ref: Name | None = None
    cross_replica_sync_interval: Duration = 0.2


class Band(Block):
    """Limits and policies of one priority; 0 or nothing means the default, never unlimited."""

    max_bytes: Quantity = 0
    max_requests: Quantity = 0
    fairness_policy_ref: Name | None = None
    ordering_policy_ref: Name | None = None


class PriorityBand(Band):
    """A band of one priority; higher goes first."""

    priority: Annotated[int, Field(ge=-(2**31), lt=2**31)]


class FlowControl(Block):
    """Queueing, in force with the feature gate `flowControl`; sizes in bytes, times in seconds."""

    max_bytes: Quantity = 0
    """All bands together; 0 is no limit."""
    max_requests: Quantity = 0
    default_request_ttl: Duration = Field(60.0, alias="defaultRequestTTL")
    """0 lets a request wait without end."""
    no_endpoint_request_ttl: Duration | None = Field(None, alias="noEndpointRequestTTL")
    """While the pool is empty; None follows `default_request_ttl`."""
    default_priority_band: Band | None = None
    default_negative_priority_band: Band | None = None
    priority_bands: tuple[PriorityBand, ...] = ()
    usage_limit_policy_plugin_ref: Name | None = None
    saturation_detector: PluginRef | None = None
    enable_eviction: bool = False


class RequestHandler(Block):
    """Who reads request bodies."""

    parsers: tuple[PluginRef, ...] = ()


class EndpointPickerConfig(Block):
    """One whole configuration, as written: nothing injected, references unchecked."""

    api_version: str
    kind: Literal["EndpointPickerConfig"]
    feature_gates: tuple[str, ...] = ()
    plugins: Annotated[tuple[PluginEntry, ...], Field(max_length=500)] = ()
    scheduling_profiles: Annotated[tuple[SchedulingProfile, ...], Field(max_length=100)] = ()
    data_layer: DataLayer = DataLayer()
    flow_control: FlowControl | None = None
    request_handler: RequestHandler = RequestHandler()

    @field_validator("api_version")
    @classmethod
    def _version(cls, value: str) -> str:
        if value not in API_VERSIONS:
            raise ValueError(f"unknown apiVersion {value[:60]!r}; write {API_VERSIONS[0]}")
        return value

    @field_validator("feature_gates")
    @classmethod
    def _gates(cls, gates: tuple[str, ...]) -> tuple[str, ...]:
        for gate in gates:
            name, _, state = gate.partition("=")
            if name not in GATES and name not in SILENT_GATES:
                raise ValueError(f"unknown feature gate {name[:60]!r}; {suggestion(name, GATES)}")
            if state not in ("", "true", "false"):
                raise ValueError(f"{gate[:60]!r}: write {name}, {name}=true or {name}=false")
        return gates

    def gate(self, name: str) -> bool:
        """Whether a feature of `GATES` is on; the last word in the list counts."""
        on = GATES[name]
        for gate in self.feature_gates:
            written, _, state = gate.partition("=")
            if written == name:
                on = state != "false"
        return on
