"""Health: which names, which status, and a watch that tells news and does not outlive a drain."""

import pytest
from grpc_health.v1 import health_pb2

from epp.wire.calls import CallError, Cancellation, Status
from epp.wire.health import Health
from epp.wire.readiness import Readiness

CHECK, LIST, WATCH = (f"/grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch"))
EXT_PROC = "envoy.service.ext_proc.v3.ExternalProcessor"


class NotedCall:
    """A call that keeps what is sent."""

    metadata = ()
    deadline = None
    peer = "unix:"

    def __init__(self):
        self.writable = True
        self.sent: list[bytes] = []
        self.ends: list[int] = []

    def send(self, message):
        self.sent.append(message)

    def end(self, status=0, message="", trailing=()):
        self.ends.append(status)

    @property
    def statuses(self):
        replies = (health_pb2.HealthCheckResponse.FromString(sent) for sent in self.sent)
        return [
            health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status) for reply in replies
        ]


def ask(readiness, path, service=""):
    """One call of a method, the request sent and half closed; the call and its handler."""
    call = NotedCall()
    handler = Health(readiness).methods[path].open(call)
    handler.message(health_pb2.HealthCheckRequest(service=service).SerializeToString())
    handler.half_closed()
    return call, handler


def draining():
    readiness = Readiness()
    readiness.drain()
    return readiness


@pytest.mark.parametrize(
    ("readiness", "ready_status"),
    [
        pytest.param(Readiness(), "SERVING", id="ready"),
        pytest.param(Readiness("synced"), "NOT_SERVING", id="not synced"),
        pytest.param(draining(), "NOT_SERVING", id="draining"),
    ],
)
def test_liveness_always_serves_and_readiness_follows_the_picker(readiness, ready_status):
    always = {"liveness": "SERVING", "inference-extension": "SERVING"}
    expected = always | dict.fromkeys(("readiness", "", EXT_PROC), ready_status)

    found = {service: ask(readiness, CHECK, service)[0].statuses for service in expected}

    assert found == {service: [status] for service, status in expected.items()}


def test_an_unknown_service_is_not_found():
    with pytest.raises(CallError) as error:
        ask(Readiness(), CHECK, "nobody")

    assert error.value.status is Status.NOT_FOUND


def test_list_names_every_service():
    call, _ = ask(Readiness("synced"), LIST)

    reply = health_pb2.HealthListResponse.FromString(call.sent[0])

    assert {name: status.status for name, status in reply.statuses.items()} == {
        "liveness": 1,
        "inference-extension": 1,
        "readiness": 2,
        "": 2,
        EXT_PROC: 2,
    }


def test_a_watch_tells_each_change_once():
    readiness = Readiness("synced", "leading")
    call, _ = ask(readiness, WATCH, "readiness")

    readiness.met("synced")
    readiness.met("leading")
    readiness.unmet("leading", "lost the lease")
    readiness.unmet("leading", "another leads")

    assert call.statuses == ["NOT_SERVING", "SERVING", "NOT_SERVING"]


def test_a_watch_of_an_unknown_service_says_so_and_stays():
    call, _ = ask(Readiness(), WATCH, "nobody")

    assert call.statuses == ["SERVICE_UNKNOWN"]
    assert call.ends == []


def test_a_watch_that_is_not_read_tells_the_last_state_when_it_is():
    readiness = Readiness("synced")
    call, handler = ask(readiness, WATCH)
    call.writable = False
    readiness.met("synced")
    readiness.unmet("synced", "stale")
    readiness.met("synced")

    call.writable = True
    handler.resumed()

    assert call.statuses == ["NOT_SERVING", "SERVING"]


def test_a_drain_ends_a_watch_after_its_last_word():
    readiness = Readiness()
    call, _ = ask(readiness, WATCH)

    readiness.drain()

    assert call.statuses == ["SERVING", "NOT_SERVING"]
    assert call.ends == [Status.UNAVAILABLE]


def test_a_watch_that_was_cancelled_hears_nothing_more():
    readiness = Readiness("synced")
    call, handler = ask(readiness, WATCH)

    handler.cancelled(Cancellation.RESET)
    readiness.met("synced")

    assert call.statuses == ["NOT_SERVING"]


def test_bytes_that_are_no_request_are_an_invalid_argument():
    with pytest.raises(CallError) as error:
        Health(Readiness()).methods[WATCH].open(NotedCall()).message(b"\xff\xff")

    assert error.value.status is Status.INVALID_ARGUMENT


def test_readiness_says_what_is_missing():
    readiness = Readiness("synced", "leading")
    readiness.unmet("synced", "no endpoints file")
    readiness.met("leading")

    assert (readiness.ready, readiness.why) == (False, "synced: no endpoints file")
