"""Follows the KV caches of the engines by the events they publish.

Bytes come from ZMQ, are decoded (`decode.py`), put in order (`sequence.py`), turned into our own
block keys (`feed.py`) and told to the residency index of the datastore, which is all it may write.
It decides nothing about requests. Open `sequence.py` first, then `follower.py`.
"""
