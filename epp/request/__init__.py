"""Headers and bytes become a request; response bytes become usage.

Pure functions and small machines over bytes: no socket, no clock. Open `reader.py` first.
"""
