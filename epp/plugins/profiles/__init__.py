"""Profile handlers: which profiles run for a request, and whose pick it gets.

Open `single.py` first.
"""
