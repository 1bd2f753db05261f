"""The nouns every room shares: request, endpoint, pool view, decision, headers.

Values only: nothing here opens a socket, reads a clock or knows a plugin.
Open `request.py` first, then `pool.py`.
"""
