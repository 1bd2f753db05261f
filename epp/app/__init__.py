"""Composition roots: the only modules that know every room.

Open `picker.py`: who is built from what, started and stopped in which order. `process.py` runs it.
"""
