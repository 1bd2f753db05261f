"""What the model servers say of themselves on /metrics.

Polls, reads the few families that matter, hands samples to the datastore. Open `loop.py` first.
"""
