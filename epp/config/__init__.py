"""What a user may write, and what it comes to.

Text becomes a checked configuration (`load.py`), and with a catalogue of plugin types a plan
(`plan.py`). It builds nothing and knows no plugin: which types exist is a value handed in. Every
mistake is told with its line, its path and the fix. Open `schema.py` first.
"""
