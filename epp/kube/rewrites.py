"""Which model is asked for instead: the rules of the pool's InferenceModelRewrites.

A rule that names the model beats one for all models; of equals the oldest object's first rule.
"""

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from epp.kube.objectives import PoolName
from epp.kube.objects import Rewrite, Rule, Target, seconds_of

MOST_DECISIONS: Final = 1000
"""Combinations counted by the client's word for a model; later ones, of rules that match every
model, count as `other`."""
OTHER: Final = "other"


class Choice:
    """The targets of one rule of the object `name`, drawn by weight; evenly without weights."""

    __slots__ = ("_models", "_sums", "name")

    def __init__(self, name: str, targets: tuple[Target, ...]) -> None:
        self.name = name
        weights = [target.weight or 0 for target in targets]
        self._models = [target.model_rewrite for target in targets]
        self._sums = list(accumulate(weights if any(weights) else [1] * len(targets)))

    def draw(self, random_: random.Random) -> str:
        """One of the models."""
        if len(self._models) == 1:
            return self._models[0]
        return self._models[bisect_right(self._sums, random_.randrange(self._sums[-1]))]


class RewriteBook:
    """Rules by model, of the rewrites of one pool."""

    def __init__(self, pool: PoolName, random_: random.Random) -> None:
        self._pool = pool
        self._random = random_
        self._exact: dict[str, Choice] = {}
        self._generic: Choice | None = None
        self.decisions: Counter[tuple[str, str, str]] = Counter()
        """How often an object's name, a model and what is asked for instead went together."""

    def target(self, model: str) -> str | None:
        """What is asked for instead of `model`; None where no rule matches."""
        choice = self._exact.get(model, self._generic)
        if choice is None:
            return None
        target = choice.draw(self._random)
        known = model if model in self._exact or len(self.decisions) < MOST_DECISIONS else OTHER
        self.decisions[choice.name, known, target] += 1
        return target

    def replace(self, *groups: Iterable[Rewrite]) -> None:
        """Take all rewrites there are, by API group; of one name the first group's counts."""
        self._exact, self._generic = {}, None
        for name, rule in rules_in_order(self._pool, groups):
            if not rule.targets:
                continue
            choice = Choice(name, rule.targets)
            models = [match.model for match in rule.matches if match.model is not None]
            if len(models) < len(rule.matches) or not rule.matches:
                self._generic = self._generic or choice
            for model in models:
                if model.type == "Exact":
                    self._exact.setdefault(model.value, choice)


def rules_in_order(
    pool: PoolName, groups: Iterable[Iterable[Rewrite]]
) -> Iterator[tuple[str, Rule]]:
    """The rules for this pool with their object's name, the oldest object first, each in order."""
    rewrites: dict[str, Rewrite] = {}
    for group in groups:
        for rewrite in group:
            if pool.meant_by(rewrite.pool_ref):
                rewrites.setdefault(rewrite.metadata.name, rewrite)
    for rewrite in sorted(rewrites.values(), key=age_of):
        for rule in rewrite.spec.rules:
            yield rewrite.metadata.name, rule


def age_of(rewrite: Rewrite) -> tuple[float, str]:
    """Sorts the oldest first, equals by name."""
    return seconds_of(rewrite.metadata.creation_timestamp) or 0.0, rewrite.metadata.name
