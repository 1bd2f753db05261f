"""Admitters: the last word before scheduling, by raising `Refused`.

Open `probabilistic.py` first.
"""
