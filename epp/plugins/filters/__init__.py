"""Filters: which endpoints stay in a profile? A bool mask, True = keep.

What several share is in modules that begin with an underscore. Open `roles.py` first.
"""
