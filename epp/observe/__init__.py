"""How the picker is watched: logs, metrics, traces and the record of each decision.

Nothing here decides anything. Open `metrics.py` first.
"""
