"""HTTP for operators: /metrics on its port, debug pages on a listener of their own.

It shows state and changes nothing. Open `server.py` first.
"""
