"""What the producers of predicted latencies in force know, for the metrics page."""

from collections.abc import Iterator

from epp.app.live import LiveConfig
from epp.observe.latency_metrics import LatencyMetrics, Missed, TargetState
from epp.plugins.producers.courses import NAMES
from epp.plugins.producers.predicted_latency import PredictedLatencyProducer


def latency_metrics(live: LiveConfig) -> LatencyMetrics:
    """Reads whatever configuration is in force when somebody looks."""
    return LatencyMetrics(lambda: targets(live), lambda: missed(live))


def producers(live: LiveConfig) -> Iterator[tuple[str, PredictedLatencyProducer]]:
    """Every producer in force, by its name."""
    for name, plugin in live.now.assembly.instances.items():
        if isinstance(plugin, PredictedLatencyProducer):
            yield name, plugin


def targets(live: LiveConfig) -> Iterator[TargetState]:
    for name, producer in producers(live):
        model = producer.courses.model
        for one in model.classes:
            for number, line in enumerate(one.lines):
                yield TargetState(
                    plugin=name,
                    endpoint_class=one.name,
                    target=NAMES[number],
                    samples=line.fit.samples,
                    warm=model.ready(one, number),
                    errors=line.errors.spread,
                    recent=line.errors.recent,
                )


def missed(live: LiveConfig) -> Iterator[Missed]:
    for name, producer in producers(live):
        for target, count in zip(NAMES, producer.courses.missed, strict=True):
            yield Missed(name, target, count)
