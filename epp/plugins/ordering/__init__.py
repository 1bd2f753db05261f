"""Who of one flow goes first.

A policy sorts requests into lanes, gives each a fixed place in its lane, and ranks the heads of
lanes whenever somebody may go. It holds no request. Open `workload.py` first: it is the default.
"""
