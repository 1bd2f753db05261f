"""How full the pool is, and each endpoint of it.

A detector turns columns into a share: 0 idle, 1 full. One rule for all: an endpoint whose gauges
are unknown or too old is left out; where all are, nothing is held to be full. Open
`utilization.py` first.
"""
