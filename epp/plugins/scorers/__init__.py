"""Scorers: how good is each endpoint for this request, in [0, 1]?

One module each; arithmetic they share is in `_arithmetic.py`. Open `expected_work.py` for the
default policy, `queue.py` for the smallest.
"""
