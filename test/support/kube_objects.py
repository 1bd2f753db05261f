"""Builders of cluster objects, and where each of them lives."""

from typing import NamedTuple

POOL_GROUP = "inference.networking.k8s.io"
ALPHA_GROUP = "inference.networking.x-k8s.io"
NEW_GROUP = "llm-d.ai"
CORE_KINDS = {
    ("", "pods"),
    ("", "events"),
    ("coordination.k8s.io", "leases"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
}
KINDS = {
    (POOL_GROUP, "inferencepools"),
    (ALPHA_GROUP, "inferencepools"),
    *((group, "inferenceobjectives") for group in (NEW_GROUP, ALPHA_GROUP)),
    *((group, "inferencemodelrewrites") for group in (NEW_GROUP, ALPHA_GROUP)),
}
PLURALS = {
    "Pod": "pods",
    "Event": "events",
    "Lease": "leases",
    "InferencePool": "inferencepools",
    "InferenceObjective": "inferenceobjectives",
    "InferenceModelRewrite": "inferencemodelrewrites",
}


class Place(NamedTuple):
    group: str
    plural: str
    namespace: str
    name: str

    @property
    def kind(self):
        return self.group, self.plural

    def within(self, where):
        """Whether an object here is in the list `where`."""
        return self[:3] == where[:3] or (self[:2] == where[:2] and not where.namespace)

    @classmethod
    def read(cls, path):
        """The place and the subresource of a request's path."""
        parts = path.strip("/").split("/")
        group = "" if parts[0] == "api" else parts[1]
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        namespace = ""
        if rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        plural, name, sub, *_ = [*rest, "", ""]
        return cls(group, plural, namespace, name), sub


def place_of(item):
    group, slash, _ = item["apiVersion"].rpartition("/")
    meta = item["metadata"]
    group = group if slash else ""
    return Place(group, PLURALS[item["kind"]], meta.get("namespace", "default"), meta["name"])


def pod(name, ip="10.0.0.1", *, ready=True, app="vllm", since="2026-01-01T00:00:00Z", **meta):
    condition = {"type": "Ready", "status": "True" if ready else "False"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"app": app, **meta.pop("labels", {})},
            **meta,
        },
        "status": {
            "phase": "Running",
            "podIP": ip,
            "conditions": [{**condition, "lastTransitionTime": since}],
        },
    }


def pool(name="pool", *, ports=(8000,), app="vllm", **meta):
    return {
        "apiVersion": f"{POOL_GROUP}/v1",
        "kind": "InferencePool",
        "metadata": {"name": name, "namespace": "default", **meta},
        "spec": {
            "selector": {"matchLabels": {"app": app}},
            "targetPorts": [{"number": port} for port in ports],
            "endpointPickerRef": {"name": f"{name}-epp", "port": {"number": 9002}},
        },
    }


def objective(name, priority=None, *, pool="pool", group=NEW_GROUP, pool_group=None, **meta):
    spec = {"poolRef": {"name": pool, **({"group": pool_group} if pool_group else {})}}
    if priority is not None:
        spec["priority"] = priority
    return made("InferenceObjective", group, name, spec, meta)


def rewrite(name, *rules, pool="pool", group=NEW_GROUP, **meta):
    spec = {"poolRef": {"name": pool}, "rules": list(rules)}
    return made("InferenceModelRewrite", group, name, spec, meta)


def rule(*models, to):
    """A rule for `models`, none for all; `to` is a model or a dict of models to weights."""
    targets = to if isinstance(to, dict) else {to: None}
    return {
        "matches": [{"model": {"type": "Exact", "value": model}} for model in models],
        "targets": [
            {"modelRewrite": model, **({"weight": weight} if weight is not None else {})}
            for model, weight in targets.items()
        ],
    }


def made(kind, group, name, spec, meta):
    return {
        "apiVersion": f"{group}/v1alpha2",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default", **meta},
        "spec": spec,
    }
