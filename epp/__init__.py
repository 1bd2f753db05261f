"""epp: an inference endpoint picker for the Kubernetes Gateway API.

A gRPC ext-proc server behind Envoy chooses, for each LLM request, the replica that will
answer it best. `flow.py` is the way of a request on one page, `points.py` every moment at
which a plugin may take part, `app/picker.py` who is built from what.
"""
