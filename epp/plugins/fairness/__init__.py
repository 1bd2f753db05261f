"""Which flow of a band goes next.

A policy chooses among flows that could send a request now; the ordering policy has chosen which
one. It keeps what it knows of flows bounded in number. Open `strict.py` first: it is the default.
"""
