"""One report reaches everybody who watches."""

import io
from dataclasses import dataclass

from epp.domain.decision import Decision, ProfileResult
from epp.domain.endpoint import Endpoint
from epp.domain.request import Head, Request
from epp.domain.response import Ending, ResponseMode, Usage
from epp.errors import NoEndpoints
from epp.observe.decisions import DecisionLog
from epp.observe.logs import RefusalLog, build_log
from epp.observe.reports import RequestReports
from epp.observe.request_metrics import RequestMetrics

DECISION = Decision(
    request_id="x", primary=ProfileResult("default", (Endpoint("pod-a", "10.0.0.1", 8000),))
)


@dataclass(slots=True, frozen=True)
class Ended:
    ending: Ending = Ending.COMPLETE
    status: int = 200
    duration: float = 1.0
    usage: Usage | None = None
    response_bytes: int = 0
    mode: ResponseMode = ResponseMode.FULL


class House:
    def __init__(self) -> None:
        self.metrics, self.decisions, self.text = RequestMetrics(), DecisionLog(), io.StringIO()
        refusals = RefusalLog(build_log(self.text), clock=lambda: 10.5)
        self.reports = RequestReports(self.metrics, refusals, self.decisions, clock=lambda: 10.5)


def request() -> Request:
    return Request(id="ours", head=Head({}), model="llama", target_model="llama", arrived=10.0)


def test_a_placed_request_is_measured_and_recorded_and_makes_no_line():
    house, asked = House(), request()
    house.reports.placed(asked, DECISION, 0.001)
    house.reports.response_started(asked, DECISION, 200, 0.1)
    house.reports.first_chunk(asked, DECISION, 0.2)
    house.reports.ended(asked, DECISION, Ended())

    assert house.metrics.requests.bind("llama", "llama", "", "0").value == 1
    assert house.metrics.running.bind("llama", "llama", "", "0").value == 0
    assert house.metrics.processing.bind().sum == 0.5
    assert house.decisions.find("ours")[0].ending == "complete"
    assert house.text.getvalue() == ""


def test_a_refusal_is_measured_recorded_and_logged():
    house = House()
    house.reports.refused(request(), NoEndpoints("none"), 0.5)

    assert house.metrics.refusals.bind("503", "no-endpoints").value == 1
    assert house.decisions.find("ours")[0].status == 503
    assert "no-endpoints" in house.text.getvalue()
