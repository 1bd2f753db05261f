"""How well the cluster is followed, and whether this picker leads."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec
from prometheus_client.core import Metric

from epp.observe.picker_metrics import told
from epp.observe.series import Family, Spec, Tally, old

EVENT_AGE: Final = Spec(
    "llm_d_epp_watch_last_event_age_seconds",
    "gauge",
    "Since the API server last said anything about objects of this kind; absent before the first.",
    ("kind",),
)
OBJECTS: Final = Spec(
    "llm_d_epp_watch_objects", "gauge", "Objects of this kind that are known.", ("kind",)
)
EVENTS: Final = Spec(
    "llm_d_epp_watch_events_total", "counter", "Changes of objects that were told.", ("kind",)
)
RELISTS: Final = Spec(
    "llm_d_epp_watch_relists_total",
    "counter",
    "Times everything of a kind was listed anew, by reason: expired, error, refused, vanished.",
    ("kind", "reason"),
)
FAILURES: Final = Spec(
    "llm_d_epp_watch_failures_total",
    "counter",
    "Lists and watches that failed, by HTTP status; `connection` where there was none.",
    ("kind", "status"),
)
UNREADABLE: Final = Spec(
    "llm_d_epp_watch_unreadable_total",
    "counter",
    "Objects that were left out because they could not be read.",
    ("kind",),
)
LEADER: Final = Spec(
    "llm_d_epp_leader", "gauge", "1 while this picker leads; absent without leader election."
)
TRANSITIONS: Final = Spec(
    "llm_d_epp_leader_transitions_total",
    "counter",
    "Times this picker began or ceased to lead.",
)
STATUSES: Final = Spec(
    "llm_d_epp_status_writes_total", "counter", "Status conditions written to objects."
)
REWRITES: Final = Spec(
    "llm_d_epp_model_rewrite_decisions_total",
    "counter",
    "Requests whose model an InferenceModelRewrite has changed, by its name.",
    ("model_rewrite_name", "model_name", "target_model"),
    old=old(
        "inference_extension_model_rewrite_decisions_total",
        "model_rewrite_name",
        "model_name",
        "target_model",
    ),
)


class WatchState(msgspec.Struct, frozen=True):
    """One kind that is followed; `age` in seconds, None before anything was heard."""

    kind: str
    age: float | None = None
    objects: int = 0
    events: int = 0
    relists: Mapping[str, int] = {}
    failures: Mapping[str, int] = {}
    unreadable: int = 0


class ClusterState(msgspec.Struct, frozen=True):
    """What there is to say; `leading` is None without an election."""

    watches: tuple[WatchState, ...] = ()
    leading: bool | None = None
    transitions: int = 0
    status_writes: int = 0
    rewrites: Mapping[tuple[str, str, str], int] = {}
    """By object's name, model and target."""


class ClusterMetrics:
    """Asks for the state at each scrape."""

    def __init__(self, state: Callable[[], ClusterState]) -> None:
        self._state = state

    def collect(self, *, old_names: bool) -> Iterator[Metric]:
        for family in families_of(self._state()):
            yield from family.collect(old_names=old_names)


def families_of(state: ClusterState) -> Iterator[Family[Tally]]:
    """One family for each metric of this page."""
    watches = state.watches
    yield told(EVENT_AGE, {(w.kind,): w.age for w in watches if w.age is not None})
    yield told(OBJECTS, {(w.kind,): w.objects for w in watches})
    yield told(EVENTS, {(w.kind,): w.events for w in watches})
    yield told(RELISTS, {(w.kind, why): n for w in watches for why, n in w.relists.items()})
    yield told(FAILURES, {(w.kind, code): n for w in watches for code, n in w.failures.items()})
    yield told(UNREADABLE, {(w.kind,): w.unreadable for w in watches})
    yield told(LEADER, {} if state.leading is None else {(): float(state.leading)})
    yield told(TRANSITIONS, {(): state.transitions})
    yield told(STATUSES, {(): state.status_writes})
    yield told(REWRITES, dict(state.rewrites))
