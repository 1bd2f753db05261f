"""The few fields of cluster objects that are read, straight from the bytes of the API server.

A pod of 4.6 KB takes 13 us to decode this way (`test/bench/bench_kube.py`); a full model takes
880.
"""

import datetime as dt
from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)
"""What a decoder raises for bytes that are no JSON, no text, or not what they should be."""


class Meta(msgspec.Struct, frozen=True, rename="camel"):
    """An object's metadata; times in RFC 3339, empty or None where there is none."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None


class Thing(msgspec.Struct, frozen=True):
    """Any object, by its metadata alone."""

    metadata: Meta


class Condition(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One entry of `status.conditions`."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    observed_generation: int = 0


class Conditions(msgspec.Struct, frozen=True):
    """A status of which only the conditions are read."""

    conditions: tuple[Condition, ...] | None = None


# -- pods -----------------------------------------------------------------------------------------


class PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    conditions: tuple[Condition, ...] | None = None


class Pod(msgspec.Struct, frozen=True):
    metadata: Meta
    status: PodStatus = PodStatus()


# -- pools ----------------------------------------------------------------------------------------


class LabelSelector(msgspec.Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str] = {}


class TargetPort(msgspec.Struct, frozen=True):
    number: int


class PoolSpec(msgspec.Struct, frozen=True, rename="camel"):
    selector: LabelSelector
    target_ports: tuple[TargetPort, ...]
    app_protocol: str = ""


class Pool(msgspec.Struct, frozen=True):
    """An InferencePool of `inference.networking.k8s.io/v1`."""

    metadata: Meta
    spec: PoolSpec


class AlphaPoolSpec(msgspec.Struct, frozen=True, rename="camel"):
    selector: dict[str, str]
    target_port_number: int


class AlphaPool(msgspec.Struct, frozen=True):
    """An InferencePool of `inference.networking.x-k8s.io/v1alpha2`."""

    metadata: Meta
    spec: AlphaPoolSpec


# -- objectives and rewrites ----------------------------------------------------------------------


class PoolRef(msgspec.Struct, frozen=True):
    """Which pool an object is for."""

    name: str
    group: str = "inference.networking.k8s.io"
    kind: str = "InferencePool"


class ObjectiveSpec(msgspec.Struct, frozen=True, rename="camel"):
    pool_ref: PoolRef
    priority: int | None = None


class Objective(msgspec.Struct, frozen=True):
    """An InferenceObjective."""

    metadata: Meta
    spec: ObjectiveSpec
    status: Conditions = Conditions()

    @property
    def pool_ref(self) -> PoolRef:
        return self.spec.pool_ref


class ModelMatch(msgspec.Struct, frozen=True):
    value: str
    type: str = "Exact"


class Match(msgspec.Struct, frozen=True):
    model: ModelMatch | None = None


class Target(msgspec.Struct, frozen=True, rename="camel"):
    model_rewrite: str
    weight: int | None = None


class Rule(msgspec.Struct, frozen=True):
    matches: tuple[Match, ...] = ()
    targets: tuple[Target, ...] = ()


class RewriteSpec(msgspec.Struct, frozen=True, rename="camel"):
    pool_ref: PoolRef
    rules: tuple[Rule, ...] = ()


class Rewrite(msgspec.Struct, frozen=True):
    """An InferenceModelRewrite."""

    metadata: Meta
    spec: RewriteSpec
    status: Conditions = Conditions()

    @property
    def pool_ref(self) -> PoolRef:
        return self.spec.pool_ref


# -- what the API server wraps them in ------------------------------------------------------------


class PageMeta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class Page(msgspec.Struct, frozen=True):
    """One page of a list; the items are decoded one by one."""

    metadata: PageMeta
    items: list[msgspec.Raw] | None = None


class Frame(msgspec.Struct, frozen=True):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class Status(msgspec.Struct, frozen=True):
    """What the API server says instead of an object."""

    code: int = 0
    reason: str = ""
    message: str = ""


def decode_status(body: bytes) -> Status:
    """What an error's body says; an empty status where it says nothing readable."""
    try:
        return _STATUS.decode(body)
    except UNREADABLE:
        return Status()


def seconds_of(stamp: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None for none or an unreadable one."""
    if not stamp:
        return None
    try:
        return dt.datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return None


def stamp_of(seconds: float) -> str:
    """RFC 3339 in whole seconds, as `metav1.Time` is written."""
    return _utc(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_stamp_of(seconds: float) -> str:
    """RFC 3339 in microseconds, as `metav1.MicroTime` is written."""
    return _utc(seconds).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _utc(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


_STATUS: Final = msgspec.json.Decoder(Status)
