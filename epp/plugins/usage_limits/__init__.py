"""How full an endpoint may be for the requests of each priority.

A policy gives every band a ceiling in 0..1; its requests go while an endpoint is filled less.
Open `static.py` first: it is the default and holds nothing back.
"""
