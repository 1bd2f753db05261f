"""Plugins that see only the response.

Open `served_verifier.py` first.
"""
