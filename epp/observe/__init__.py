"""How the picker is watched: logs, metrics, traces and the record of each decision.

Nothing here decides anything, and nothing here may cost a request more than a few microseconds:
what can be worked out when somebody looks is worked out then. Open `metrics.py` first, then
`reports.py`, where a request's life is told to all of them.
"""
