"""Every plugin that ships with the picker, one module each, grouped by extension point.

Plugins meet through columns and facts, never by importing each other. Open `catalog.py` first.
"""
