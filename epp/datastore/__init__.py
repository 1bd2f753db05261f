"""What we know about the pool: one writer, views for readers, the ledger of what we sent.

Only this room changes what is known; it opens no socket and reads no clock but the one it is given.
Open `store.py` first.
"""
