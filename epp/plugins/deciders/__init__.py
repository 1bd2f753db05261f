"""Deciders: is a request prefilled or encoded elsewhere than where it is decoded?

Each writes its verdicts under its name (`verdicts.py`), where the profile handler looks.
Open `prefix_based.py` first.
"""
