"""Why a request went where it went, in one line for people."""

from typing import Final

from epp.domain.decision import Decision

SHOWN: Final = 3


def in_words(decision: Decision) -> str:
    """The best totals, highest first, and who gave them: `a 1.00, b 0.41 by queue-scorer`.

    Without scores (one endpoint left, no scorer) it is the decision's own reason.
    """
    trace = decision.primary.trace
    if trace is None or not trace.scores or not trace.totals:
        return decision.reason
    ranked = sorted(zip(trace.totals, trace.candidates, strict=True), reverse=True)
    told = ", ".join(f"{name} {total:.2f}" for total, name in ranked[:SHOWN])
    return f"{told} by {' + '.join(word.name for word in trace.scores)}"
