"""Where does it go?

Runs profiles of filters, scorers and a picker over one view of the pool; knows no plugin by name.
Open `scheduler.py` first.
"""
