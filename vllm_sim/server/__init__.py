"""The engine on HTTP, as vLLM's API server shows it.

`replica.py` is the one task that drives an engine and hands out its tokens; handlers translate one
API each; `app.py` puts them on routes. Faults (`faults.py`) sit between. Open `app.py` first.
"""
