"""What watching costs: cells against the library's metrics, a request's reports, a page.

Run: python test/bench/bench_observe.py [FILE]; with FILE the numbers are written there as JSON.
"""

import io
import json
import sys
import timeit
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as LibraryHistogram

from epp.admin.exposition import exposition
from epp.domain.decision import Decision, ProfileResult, ProfileTrace, ScoredBy
from epp.domain.endpoint import Endpoint
from epp.domain.request import Head, Request
from epp.domain.response import Ending, ResponseMode, Usage
from epp.errors import NoEndpoints
from epp.observe import bounds
from epp.observe.decisions import DecisionLog
from epp.observe.logs import RefusalLog, build_log
from epp.observe.metrics import Metrics
from epp.observe.reports import RequestReports
from epp.observe.request_metrics import RequestMetrics
from epp.observe.series import Histogram

ROUNDS = 20_000


USAGE = Usage(1000, 200, 500)


@dataclass(slots=True, frozen=True)
class Ended:
    ending: Ending = Ending.COMPLETE
    status: int = 200
    duration: float = 1.5
    usage: Usage | None = USAGE
    response_bytes: int = 4000
    mode: ResponseMode = ResponseMode.FULL


def microseconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Best of five, per call."""
    return min(timeit.repeat(work, number=rounds, repeat=5)) / rounds * 1e6


def decision(endpoints: int = 8) -> Decision:
    chosen = tuple(
        Endpoint(f"pod-{number}", f"10.0.0.{number}", 8000) for number in range(endpoints)
    )
    names = tuple(endpoint.name for endpoint in chosen)
    scores = tuple(ScoredBy(f"scorer-{number}", 1.0, (0.5,) * endpoints) for number in range(3))
    trace = ProfileTrace("default", (), names, scores, (1.5,) * endpoints)
    return Decision(request_id="x", primary=ProfileResult("default", chosen[:1], (1.5,), trace))


def reports() -> tuple[RequestReports, RequestMetrics]:
    metrics = RequestMetrics()
    log = build_log(io.StringIO())
    refusals = RefusalLog(log, clock=monotonic)
    return RequestReports(metrics, refusals, DecisionLog(), clock=monotonic), metrics


def request(number: int = 0) -> Request:
    head = Head({":path": "/v1/chat/completions", "x-request-id": f"client-{number}"})
    name = "meta-llama/Llama-3.1-8B-Instruct"
    return Request(
        id=str(number), head=head, kind="chat", model=name, target_model=name, stream=True
    )


def a_placed_request() -> float:
    """Placed, headers, first piece, ended: metrics, record and all, without making the request."""
    told, _ = reports()
    pick, outcome = decision(), Ended()
    requests = iter([request(number) for number in range(ROUNDS * 5)])

    def one() -> None:
        asked = next(requests)
        told.placed(asked, pick, 0.0001)
        told.response_started(asked, pick, 200, 0.1)
        told.first_chunk(asked, pick, 0.2)
        told.ended(asked, pick, outcome)

    return microseconds(one)


def a_refusal_in_a_flood() -> float:
    told, _ = reports()
    asked, refusal = request(), NoEndpoints("none ready")
    return microseconds(lambda: told.refused(asked, refusal, 0.001))


def a_page(models: int) -> CollectorRegistry:
    """Every family of requests for so many models, under both names."""
    metrics = RequestMetrics()
    pick = decision()
    for number in range(models):
        asked = Request(id="x", head=Head({}), model=f"m-{number}", target_model=f"m-{number}")
        metrics.placed(asked, pick, 0.001)
        metrics.ended(asked, pick, Ended())
    registry = CollectorRegistry()
    registry.register(Metrics(metrics))
    return registry


def page_costs(models: int) -> dict[str, float]:
    """Milliseconds for the page, by our writer and by the library's, and its lines."""
    registry = a_page(models)
    ours = microseconds(lambda: "".join(exposition(registry, "")[1]), 2) / 1000
    library = microseconds(lambda: generate_latest(registry), 1) / 1000
    written = generate_latest(registry).count(b"\n")
    return {"lines": written, "ours_ms": ours, "library_ms": library}


def library_histogram(bound: bool) -> Callable[[], object]:
    made = LibraryHistogram("h", "h", list("abcd"), buckets=bounds.DURATION, registry=None)
    child = made.labels("a", "b", "c", "d")
    if bound:
        return lambda: child.observe(0.3)
    return lambda: made.labels("a", "b", "c", "d").observe(0.3)


def measure() -> dict[str, float]:
    cell = Histogram(bounds.DURATION)
    return {
        "histogram_cell_us": microseconds(lambda: cell.observe(0.3)),
        "histogram_library_bound_us": microseconds(library_histogram(True)),
        "histogram_library_by_labels_us": microseconds(library_histogram(False)),
        "placed_request_all_reports_us": a_placed_request(),
        "refusal_in_a_flood_us": a_refusal_in_a_flood(),
        **{f"page_10_models_{name}": value for name, value in page_costs(10).items()},
        **{f"page_100_models_{name}": value for name, value in page_costs(100).items()},
    }


def main() -> None:
    numbers = {name: round(value, 3) for name, value in measure().items()}
    text = json.dumps({"python": sys.version, **numbers}, indent=2)
    print(text)
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
