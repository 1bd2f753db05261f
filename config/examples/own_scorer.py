# ruff: noqa: ANN001, ANN201
"""A plugin in a file: any class with a `type` and a method of an extension point."""


class EvenHostsScorer:
    """even-hosts-scorer: prefers endpoints whose name ends in an even digit."""

    type = "even-hosts-scorer"

    def score(self, request, pool):
        return [endpoint.name[-1:] in "02468" for endpoint in pool.endpoints]
