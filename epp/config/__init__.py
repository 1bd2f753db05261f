"""What a user may write: the schema of a configuration and how it is loaded.

It knows no plugin: type names and parameters are checked against a catalogue in `assemble`.
Open `schema.py` first.
"""
