"""The kinds a picker reads, as models: what `generate.py` makes definitions from.

A docstring becomes a description, a constraint a limit of the schema, a rule a CEL expression
that the API server evaluates. Fields left out of `required` may be absent in an object.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

GROUP_PATTERN = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
KIND_PATTERN = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
NAMESPACE_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
LABEL_KEY_PATTERN = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/)?"
    r"([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]$"
)
LABEL_VALUE_PATTERN = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
CONTROLLER_PATTERN = (
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
    r"\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"
)
CONDITION_TYPE_PATTERN = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?"
    r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)
REASON_PATTERN = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"

Int32 = Annotated[int, Field(json_schema_extra={"format": "int32"})]
Group = Annotated[str, StringConstraints(max_length=253, pattern=GROUP_PATTERN)]
Kind = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=KIND_PATTERN)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Namespace = Annotated[
    str, StringConstraints(min_length=1, max_length=63, pattern=NAMESPACE_PATTERN)
]
PortNumber = Annotated[int, Field(ge=1, le=65535, json_schema_extra={"format": "int32"})]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=LABEL_VALUE_PATTERN)]
Time = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


def rule(expression: str, message: str) -> dict[str, str]:
    return {"rule": expression, "message": message}


UNIQUE_PORTS = rule(
    "self.all(a, self.exists_one(b, a.number == b.number))", "port number must be unique"
)
SERVICE_HAS_PORT = rule(
    "self.kind != 'Service' || has(self.port)",
    "port is required when kind is 'Service' or unspecified (defaults to 'Service')",
)
ATOMIC = {"x-kubernetes-list-type": "atomic"}
BY_TYPE = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}


class Model(BaseModel):
    """Fields in the spelling of the API."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Condition(Model):
    """One aspect of the current state."""

    last_transition_time: Time = Field(description="When the condition last changed its status.")
    message: str = Field(max_length=32768, description="What a person may read about it.")
    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] = Field(
        default=None, description="The generation of the object that the condition speaks of."
    )
    reason: str = Field(
        min_length=1, max_length=1024, pattern=REASON_PATTERN, description="Why, in one word."
    )
    status: Literal["True", "False", "Unknown"]
    type: str = Field(max_length=316, pattern=CONDITION_TYPE_PATTERN)


def pending(kind: str) -> list[dict[str, str]]:
    """What an object says before anybody has judged it."""
    return [
        {
            "type": kind,
            "status": "Unknown",
            "reason": "Pending",
            "message": "Waiting for controller",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }
    ]


class LabelSelector(Model):
    """Pods that carry every one of these labels."""

    match_labels: dict[
        Annotated[str, StringConstraints(min_length=1, max_length=253)], LabelValue
    ] = Field(
        min_length=1,
        max_length=64,
        description="Labels and their values; all must match. Pods of the same namespace only.",
        json_schema_extra={"propertyNames": None},
    )


class Port(Model):
    """A port of the pool's pods; each is an endpoint of its own."""

    number: PortNumber = Field(description="The number of the port.")


class PickerPort(Model):
    """A port of the picker's Service."""

    number: PortNumber = Field(description="The port of the Service, not of its pods.")


class AppProtocol(StrEnum):
    """What the pods speak."""

    HTTP = "http"
    H2C = "kubernetes.io/h2c"


class FailureMode(StrEnum):
    """What a gateway does while no picker answers."""

    OPEN = "FailOpen"
    CLOSE = "FailClose"


class EndpointPickerRef(Model):
    """The picker a gateway asks for each request to the pool."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [SERVICE_HAS_PORT]})

    group: Group = Field(default="", description="API group of the picker; empty is core.")
    kind: Kind = Field(default="Service", description="Kind of the picker.")
    name: Name = Field(description="Name of the picker, in the pool's namespace.")
    port: PickerPort = Field(default=None, description="Where it serves ext_proc.")
    failure_mode: FailureMode = Field(
        default=FailureMode.CLOSE,
        description="What a gateway does while the picker does not answer.",
    )


class InferencePoolSpec(Model):
    """Which pods belong to the pool, and who picks among them."""

    selector: LabelSelector = Field(description="The pods of the pool.")
    target_ports: list[Port] = Field(
        min_length=1,
        max_length=8,
        description="Ports of each pod that serve requests; several are data parallel ranks.",
        json_schema_extra={**ATOMIC, "x-kubernetes-validations": [UNIQUE_PORTS]},
    )
    app_protocol: AppProtocol = Field(default=AppProtocol.HTTP, description="What the pods speak.")
    endpoint_picker_ref: EndpointPickerRef = Field(
        default=None, description="The picker; without one a gateway chooses by itself."
    )


class ParentReference(Model):
    """A gateway that uses the pool."""

    group: Group = Field(default="gateway.networking.k8s.io")
    kind: Kind = Field(default="Gateway")
    name: Name
    namespace: Namespace = None


class ParentStatus(Model):
    """What one gateway says of the pool."""

    parent_ref: ParentReference
    controller_name: Annotated[
        str, StringConstraints(min_length=1, max_length=253, pattern=CONTROLLER_PATTERN)
    ] = None
    conditions: list[Condition] = Field(default=None, max_length=8, json_schema_extra=BY_TYPE)


class InferencePoolStatus(Model):
    """What the gateways that use the pool say of it."""

    parents: list[ParentStatus] = Field(default=None, max_length=32, json_schema_extra=ATOMIC)


class InferencePool(Model):
    """Pods that serve the same models, and the picker that chooses among them."""

    spec: InferencePoolSpec
    status: InferencePoolStatus = None


class PoolReference(Model):
    """A pool of the same namespace."""

    group: Group = Field(default="inference.networking.k8s.io")
    kind: Kind = Field(default="InferencePool")
    name: Name


class InferenceObjectiveSpec(Model):
    """How much a request that names this objective matters."""

    priority: Int32 = Field(
        default=None,
        description="Higher goes first; absent is 0; below 0 may be shed while the pool is full.",
    )
    pool_ref: PoolReference = Field(description="The pool it holds for.")


class InferenceObjectiveStatus(Model):
    """What the picker says of the objective."""

    conditions: list[Condition] = Field(
        default=pending("Ready"), max_length=8, json_schema_extra=BY_TYPE
    )


class InferenceObjective(Model):
    """A priority by name, for requests to one pool."""

    spec: InferenceObjectiveSpec = None
    status: InferenceObjectiveStatus = None


class ModelMatch(Model):
    """The model a request asks for."""

    type: Literal["Exact"] = Field(default="Exact", json_schema_extra={"type": "string"})
    value: str = Field(min_length=1, description="The name as the client writes it.")


class Match(Model):
    """What a request must be for a rule to hold."""

    model: ModelMatch = Field(default=None, description="Its model.")


class TargetModel(Model):
    """A model that requests are sent to instead."""

    weight: Annotated[int, Field(ge=1, le=1_000_000, json_schema_extra={"format": "int32"})] = (
        Field(default=None, description="Its share among the rule's targets.")
    )
    model_rewrite: str = Field(min_length=1, description="The name as the pods know it.")


class RewriteRule(Model):
    """Where requests that match go."""

    matches: list[Match] = Field(
        default=None, description="Any of these must match; none matches every request."
    )
    targets: list[TargetModel] = Field(
        default=None, min_length=1, description="One is drawn for each request, by weight."
    )


class InferenceModelRewriteSpec(Model):
    """Rules in the order in which they are tried."""

    pool_ref: PoolReference = Field(description="The pool it holds for.")
    rules: list[RewriteRule] = Field(description="The first that matches holds.")


class InferenceModelRewriteStatus(Model):
    """What the picker says of the rewrite."""

    conditions: list[Condition] = Field(
        default=pending("Accepted"), max_length=8, json_schema_extra=BY_TYPE
    )


class InferenceModelRewrite(Model):
    """Model names that clients write, and the names that the pods are asked for."""

    spec: InferenceModelRewriteSpec = None
    status: InferenceModelRewriteStatus = None


Columns = list[dict[str, Any]]
POOL_COLUMN = {"name": "Inference Pool", "type": "string", "jsonPath": ".spec.poolRef.name"}
PRIORITY_COLUMN = {"name": "Priority", "type": "integer", "jsonPath": ".spec.priority"}
AGE_COLUMN = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
