"""An API server's memory without a socket: versions, history, pages, compaction."""

import json


class Gone(Exception):
    """What was asked for is no longer remembered."""


class ServerModel:
    """Objects of one kind by name. Every write takes the next version."""

    def __init__(self):
        self.version = 10
        self.objects = {}
        self.history = []
        self.oldest = 10
        self.snapshots = {}

    def write(self, name, value):
        self.version += 1
        kind = "MODIFIED" if name in self.objects else "ADDED"
        self.objects[name] = thing(name, self.version, value)
        self.history.append((self.version, kind, self.objects[name]))

    def delete(self, name):
        if name in self.objects:
            self.version += 1
            self.history.append((self.version, "DELETED", thing(name, self.version, "last")))
            del self.objects[name]

    def compact(self):
        """Forget all history and every list that is under way."""
        self.history = []
        self.snapshots = {}
        self.oldest = self.version

    def restart(self):
        """The server's memory of lists is gone, its history stays in the store."""
        self.snapshots = {}

    def page(self, query):
        """One page of a list. Raises Gone for a token that has expired."""
        limit = int(query.get("limit", 0)) or None
        if token := query.get("continue"):
            version, start = (int(part) for part in token.split("-"))
            if version not in self.snapshots:
                raise Gone
        else:
            version, start = self.version, 0
            self.snapshots[version] = sorted(self.objects.values(), key=name_of)
        items = self.snapshots[version]
        end = len(items) if limit is None else start + limit
        more = f"{version}-{end}" if end < len(items) else ""
        meta = {"resourceVersion": str(version), **({"continue": more} if more else {})}
        return json.dumps({"metadata": meta, "items": items[start:end]}).encode()

    def since(self, version):
        """Lines of a watch from `version`. Raises Gone when the history does not reach back."""
        if version < self.oldest:
            raise Gone
        return [(at, line(kind, item)) for at, kind, item in self.history if at > version]

    def bookmark(self):
        return line("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})


def thing(name, version, value):
    return {"metadata": {"name": name, "resourceVersion": str(version)}, "value": value}


def name_of(item):
    return item["metadata"]["name"]


def line(kind, item):
    return json.dumps({"type": kind, "object": item}).encode()


def error_line(code, reason=""):
    status = {"kind": "Status", "code": code, "reason": reason, "message": "told off"}
    return line("ERROR", status)
