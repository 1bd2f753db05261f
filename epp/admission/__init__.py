"""May it go now?

Says when a request may be placed, never where. Open `gate.py` first.
"""
