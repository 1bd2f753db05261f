"""Producers: what can be found out about a request and its endpoints before scheduling.

They meet scorers and filters through the columns named in `epp/plugins/columns.py` only.
Open `approx_prefix.py` first.
"""
