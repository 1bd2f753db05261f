"""Every baseline by name: what it is and the configuration that makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from epp_lab.baselines.go_prefix import GoApproxPrefixProducer
from epp_lab.baselines.go_queue import GoUtilizationDetector
from epp_lab.baselines.hashing import BoundedHashFilter
from epp_lab.baselines.precise import (
    DynamoCostScorer,
    EventsPrefixProducer,
    ExactPrefixProducer,
    LMetricScorer,
)
from epp_lab.baselines.raw_gauges import RawKvScorer, RawQueueScorer
from epp_lab.baselines.simple import PowerOfTwoPicker, RoundRobinPicker

PLUGINS: Final[tuple[type[Any], ...]] = (
    RoundRobinPicker,
    PowerOfTwoPicker,
    BoundedHashFilter,
    RawQueueScorer,
    RawKvScorer,
    GoApproxPrefixProducer,
    GoUtilizationDetector,
    ExactPrefixProducer,
    EventsPrefixProducer,
    DynamoCostScorer,
    LMetricScorer,
)


@dataclass(frozen=True, slots=True)
class Baseline:
    """One policy to compare with."""

    about: str
    config: str | None
    """An EndpointPickerConfig; None is the picker's built-in default."""


def configured(*plugins: str, weights: Sequence[tuple[str, float]] = ()) -> str:
    """A configuration of one profile: `plugins` in order, scorers with their weights."""
    weighted = dict(weights)
    lines = ["apiVersion: llm-d.ai/v1alpha1", "kind: EndpointPickerConfig", "plugins:"]
    lines += [f"- type: {plugin}" for plugin in (*plugins, *weighted)]
    lines += ["schedulingProfiles:", "- name: default", "  plugins:"]
    for plugin in (*plugins, *weighted):
        if plugin.endswith(("-filter", "-scorer", "-picker")):
            lines.append(f"  - pluginRef: {plugin}")
        if plugin in weighted:
            lines.append(f"    weight: {weighted[plugin]}")
    return "\n".join(lines) + "\n"


BASELINES: Final[Mapping[str, Baseline]] = {
    "default": Baseline("the picker's own default: expected work in tokens", None),
    "round-robin": Baseline("one after the other", configured("lab-round-robin-picker")),
    "random": Baseline("any", configured("random-picker")),
    "least-requests": Baseline(
        "fewest open requests of all",
        configured("max-score-picker", weights=[("active-request-scorer", 1)]),
    ),
    "power-of-two": Baseline(
        "fewer open requests of two at random", configured("lab-power-of-two-picker")
    ),
    "go-default": Baseline(
        "the Go picker's default: scraped queue 2, scraped KV 2, guessed prefix 3",
        configured(
            "lab-go-approx-prefix-producer",
            "max-score-picker",
            weights=[
                ("lab-raw-queue-scorer", 2),
                ("lab-raw-kv-scorer", 2),
                ("prefix-cache-scorer", 3),
            ],
        ),
    ),
    "go-lora": Baseline(
        "go-default and the Go picker's LoRA affinity 1",
        configured(
            "lab-go-approx-prefix-producer",
            "max-score-picker",
            weights=[
                ("lab-raw-queue-scorer", 2),
                ("lab-raw-kv-scorer", 2),
                ("prefix-cache-scorer", 3),
                ("lora-affinity-scorer", 1),
            ],
        ),
    ),
    "sticky": Baseline(
        "the Go picker's sticky until saturated: warm caches first, then fewest prompt tokens",
        configured(
            "lab-go-approx-prefix-producer",
            "prefix-cache-affinity-filter",
            "max-score-picker",
            weights=[("token-load-scorer", 1)],
        ),
    ),
    "precise": Baseline(
        "caches known from events 3, scraped queue 2, scraped KV 2",
        configured(
            "lab-exact-prefix-producer",
            "max-score-picker",
            weights=[
                ("lab-raw-queue-scorer", 2),
                ("lab-raw-kv-scorer", 2),
                ("prefix-cache-scorer", 3),
            ],
        ),
    ),
    "dynamo": Baseline(
        "Dynamo's cost in blocks over caches known from events",
        configured(
            "lab-exact-prefix-producer",
            "max-score-picker",
            weights=[("lab-dynamo-cost-scorer", 1)],
        ),
    ),
    "lmetric": Baseline(
        "new prompt tokens times batch, over caches known from events",
        configured(
            "lab-exact-prefix-producer", "max-score-picker", weights=[("lab-lmetric-scorer", 1)]
        ),
    ),
    "chwbl": Baseline(
        "prefix hash with bounded loads",
        configured("lab-bounded-hash-filter", "random-picker"),
    ),
}
