"""What a kubelet says of a pod: phase, conditions and container states. Pure but for the clock."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


def now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class ContainerState:
    """What is known of one container of a pod."""

    name: str
    image: str
    state: Object = field(default_factory=lambda: waiting("ContainerCreating"))
    last: Object = field(default_factory=dict)
    ready: bool = False
    started: bool = False
    restarts: int = 0

    @property
    def running(self) -> bool:
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """Of the last end, unless it runs again."""
        ended = self.state.get("terminated")
        return None if ended is None else ended["exitCode"]

    def run(self) -> None:
        self.state = {"running": {"startedAt": now()}}

    def end(self, code: int) -> None:
        begun = self.state.get("running", {}).get("startedAt", now())
        reason = "Completed" if code == 0 else "Error"
        self.state = {
            "terminated": {
                "exitCode": code,
                "reason": reason,
                "startedAt": begun,
                "finishedAt": now(),
            }
        }
        self.ready = self.started = False

    def wait(self, reason: str, message: str = "") -> None:
        if "terminated" in self.state:
            self.last = self.state
        self.state = waiting(reason, message)

    def as_status(self) -> Object:
        return {
            "name": self.name,
            "image": self.image,
            "imageID": f"local://{self.image}",
            "containerID": f"local://{self.name}-{self.restarts}",
            "state": self.state,
            "lastState": self.last,
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
        }


def waiting(reason: str, message: str = "") -> Object:
    said = {"message": message} if message else {}
    return {"waiting": {"reason": reason, **said}}


def phase(states: list[ContainerState], policy: str, *, initialized: bool) -> str:
    """Pending, Running, Succeeded or Failed, by the rules of the API."""
    if not initialized or not any(s.running or "terminated" in s.state or s.last for s in states):
        return "Pending"
    if any(s.exit_code is None for s in states) or policy == "Always":
        return "Running"
    if all(s.exit_code == 0 for s in states):
        return "Succeeded"
    return "Running" if policy == "OnFailure" else "Failed"


class Conditions:
    """A pod's conditions, each with the time when it last changed."""

    def __init__(self) -> None:
        self._held: dict[str, Object] = {}

    def put(self, kind: str, value: bool, reason: str = "") -> None:
        status = "True" if value else "False"
        held = self._held.get(kind)
        changed = held is None or held["status"] != status
        since = now() if changed else held["lastTransitionTime"]
        self._held[kind] = {"type": kind, "status": status, "lastTransitionTime": since}
        if reason and not value:
            self._held[kind]["reason"] = reason

    def as_list(self) -> list[Object]:
        return list(self._held.values())
