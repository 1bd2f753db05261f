"""All metrics of the picker, and how they get into a registry.

`request_metrics.py`, `flow_metrics.py`, `pool_metrics.py` and `picker_metrics.py` hold the families
by subject; names and meanings are in `request_specs.py` and `picker_specs.py`, and `series.py` is
what they are made of. Each family is emitted under its name (`llm_d_epp_*`) and, unless switched
off, once more under the older name dashboards may still use.
"""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from epp.observe.cluster_metrics import ClusterState
from epp.observe.cluster_metrics import families_of as cluster_families_of
from epp.observe.flow_metrics import FlowMetrics
from epp.observe.kv_metrics import KvState, kv_families_of
from epp.observe.latency_metrics import latency_families_of
from epp.observe.picker_metrics import PickerMetrics
from epp.observe.pool_metrics import PoolState, families_of
from epp.observe.request_metrics import RequestMetrics
from epp.observe.series import Spec


class Subject(Protocol):
    """A group of families."""

    def collect(self, *, old_names: bool) -> Iterator[Metric]: ...


class Metrics(Collector):
    """Subjects as one collector for a registry."""

    def __init__(self, *subjects: Subject, old_names: bool = True) -> None:
        self._subjects = subjects
        self._old_names = old_names

    def collect(self) -> Iterator[Metric]:
        for subject in self._subjects:
            yield from subject.collect(old_names=self._old_names)

    def describe(self) -> list[Metric]:
        """Empty: spares the registry a collection when it registers this."""
        return []


def add_process_metrics(registry: CollectorRegistry) -> None:
    """CPU, memory, file descriptors and garbage collection of this process."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)


def all_specs() -> tuple[Spec, ...]:
    """Every family there is, by subject; docs/metrics.md is held against it."""
    picker = PickerMetrics()
    families = (
        *RequestMetrics().families(),
        *FlowMetrics().families(),
        *FlowMetrics().asked(),
        *families_of(PoolState("")),
        *picker.families(),
        *picker.asked(),
        *cluster_families_of(ClusterState()),
        *kv_families_of(KvState()),
        *latency_families_of(),
    )
    return tuple(family.spec for family in families)
