"""How near two endpoints are, by the topology labels of Kubernetes."""

from typing import Final

from epp.domain.endpoint import Endpoint

LEVELS: Final = {
    "host": "kubernetes.io/hostname",
    "rack": "topology.kubernetes.io/rack",
    "zone": "topology.kubernetes.io/zone",
    "region": "topology.kubernetes.io/region",
}
"""Nearest first; the label each level is read from."""


def shared_level(one: Endpoint, other: Endpoint) -> str | None:
    """The nearest level both share, None if they share none that is labelled."""
    for level, label in LEVELS.items():
        value = one.labels.get(label)
        if value and value == other.labels.get(label):
            return level
    return None
