"""Pickers: from total scores to endpoints, best first, at least one.

Chance comes from the random source of `tools`. Open `max_score.py` first.
"""
