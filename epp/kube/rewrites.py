"""Which model is asked for instead: the rules of the pool's InferenceModelRewrites.

A rule that names the model beats one for all models; of equals the oldest object's first rule.
"""

import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

from epp.kube.objectives import PoolName
from epp.kube.objects import Rewrite, Rule, Target, seconds_of


class Choice:
    """The targets of one rule, drawn by weight; evenly where there are no weights."""

    __slots__ = ("_models", "_sums")

    def __init__(self, targets: tuple[Target, ...]) -> None:
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

    def target(self, model: str) -> str | None:
        """What is asked for instead of `model`; None where no rule matches."""
        choice = self._exact.get(model, self._generic)
        return choice.draw(self._random) if choice is not None else None

    def replace(self, *groups: Iterable[Rewrite]) -> None:
        """Take all rewrites there are, by API group; of one name the first group's counts."""
        self._exact, self._generic = {}, None
        for rule in rules_in_order(self._pool, groups):
            if not rule.targets:
                continue
            choice = Choice(rule.targets)
            models = [match.model for match in rule.matches if match.model is not None]
            if len(models) < len(rule.matches) or not rule.matches:
                self._generic = self._generic or choice
            for model in models:
                if model.type == "Exact":
                    self._exact.setdefault(model.value, choice)


def rules_in_order(pool: PoolName, groups: Iterable[Iterable[Rewrite]]) -> Iterator[Rule]:
    """The rules for this pool, those of the oldest object first, each object's in its order."""
    rewrites: dict[str, Rewrite] = {}
    for group in groups:
        for rewrite in group:
            if pool.meant_by(rewrite.pool_ref):
                rewrites.setdefault(rewrite.metadata.name, rewrite)
    for rewrite in sorted(rewrites.values(), key=age_of):
        yield from rewrite.spec.rules


def age_of(rewrite: Rewrite) -> tuple[float, str]:
    """Sorts the oldest first, equals by name."""
    return seconds_of(rewrite.metadata.creation_timestamp) or 0.0, rewrite.metadata.name
