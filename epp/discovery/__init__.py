"""Which endpoints there are, from a file that is watched.

A source says everything first, may repeat itself and never judges. Open `file.py` first.
"""
