"""The screener of rollouts: a request stays within one revision of a disaggregated set."""

import random
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar, Final, Literal

import numpy as np
from pydantic import Field, model_validator

from epp.config.params import PluginParams
from epp.domain.endpoint import Endpoint
from epp.domain.pool import Mask, PoolView
from epp.domain.request import Request
from epp.plugins.filters._labels import LabelRule
from epp.plugins.filters.label_selector import Requirement
from epp.points import Tools

REVISION: Final = "disaggregatedset.x-k8s.io/revision"
ROLE: Final = "disaggregatedset.x-k8s.io/role"


class Selector(PluginParams):
    """A Kubernetes label selector."""

    match_labels: dict[str, str] = Field(default_factory=dict)
    match_expressions: list[Requirement] = Field(default_factory=list)

    @model_validator(mode="after")
    def _selects(self) -> "Selector":
        if not self.match_labels and not self.match_expressions:
            raise ValueError("give `matchLabels` or `matchExpressions`")
        return self

    def allows(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` fulfil all of it."""
        equal = all(labels.get(name) == value for name, value in self.match_labels.items())
        return equal and all(one.allows(labels) for one in self.match_expressions)


class Scope(PluginParams):
    """Which endpoints belong to the set."""

    label_selector: Selector


class HeaderSelector(PluginParams):
    """A request header that chooses by a label of the same value."""

    name: str = ""
    header_name: str = Field(min_length=1)
    label_key: str = Field(min_length=1)
    mode: Literal["strict", "prefer"] = "strict"


class Roles(PluginParams):
    """Roles of which a revision needs one endpoint each."""

    values: list[str] = Field(default_factory=list)


class Gating(PluginParams):
    """How one revision is chosen."""

    mode: Literal["sum", "max-role", "disabled"] = "sum"
    require_roles: Roles = Field(default_factory=Roles)
    revision_label_key: str = Field(default=REVISION, min_length=1)
    role_label_key: str = Field(default=ROLE, min_length=1)


class RolloutScreener:
    """disaggregatedset-rollout-screener: keeps each request within one revision of a rollout.

    Formula: endpoints outside the scope go. For each selector whose header came: those whose label
    has the header's value stay; if there is none, strict rules out all and prefer changes nothing.
    Of the revisions that have every required role one is drawn, weighted by its ready endpoints
    (mode sum) or by those of its most numerous role (max-role); its endpoints stay. None: 503.
    Parameters: scope (labelSelector: matchLabels, matchExpressions), headerSelectors (list of name,
    headerName, labelKey, mode strict or prefer; default none), revisionGating (mode sum, max-role
    or disabled, default sum; requireRoles.values, default none; revisionLabelKey and roleLabelKey,
    default disaggregatedset.x-k8s.io/revision and .../role).
    Reads: labels, headers.
    Example:
        - type: disaggregatedset-rollout-screener
          parameters:
            scope: {labelSelector: {matchLabels: {app: llm}}}
            revisionGating: {requireRoles: {values: [prefill, decode]}}
    """

    type: ClassVar[str] = "disaggregatedset-rollout-screener"

    class Params(PluginParams):
        scope: Scope
        header_selectors: list[HeaderSelector] = Field(default_factory=list)
        revision_gating: Gating = Field(default_factory=Gating)

    def __init__(self, params: Params, tools: Tools) -> None:
        self._scope = LabelRule(params.scope.label_selector.allows)
        self._selectors = params.header_selectors
        self._gating = params.revision_gating
        self._random: random.Random = tools.random

    def screen(self, request: Request, pool: PoolView) -> Mask:
        mask = self._scope.mask(pool)
        for selector in self._selectors:
            mask = _chosen_by_header(selector, request, pool, mask)
        if self._gating.mode == "disabled":
            return mask
        kept = [e for e, yes in zip(pool.endpoints, mask, strict=True) if yes]
        revision = self._revision(kept)
        return mask & self._labelled(pool, revision) if revision else np.zeros_like(mask)

    def _revision(self, endpoints: list[Endpoint]) -> str:
        """One complete revision, drawn by weight; empty where there is none."""
        key, role_key = self._gating.revision_label_key, self._gating.role_label_key
        roles: dict[str, Counter[str]] = {}
        for endpoint in endpoints:
            if revision := endpoint.labels.get(key, ""):
                roles.setdefault(revision, Counter())[endpoint.labels.get(role_key, "")] += 1
        needed = self._gating.require_roles.values
        weights = {
            revision: max(counts.values()) if self._gating.mode == "max-role" else counts.total()
            for revision, counts in sorted(roles.items())
            if all(counts[role] for role in needed)
        }
        if not weights:
            return ""
        return self._random.choices(list(weights), list(weights.values()))[0]

    def _labelled(self, pool: PoolView, revision: str) -> Mask:
        key = self._gating.revision_label_key
        return np.array([e.labels.get(key) == revision for e in pool.endpoints], dtype=np.bool_)


def _chosen_by_header(
    selector: HeaderSelector, request: Request, pool: PoolView, mask: Mask
) -> Mask:
    wanted = request.headers.get(selector.header_name.lower())
    if not wanted:
        return mask
    key = selector.label_key
    same = mask & np.array([e.labels.get(key) == wanted for e in pool.endpoints], dtype=np.bool_)
    return same if same.any() or selector.mode == "strict" else mask
