"""/metrics as vLLM writes it, for the version asked for.

`record.py` counts, `page.py` writes the text, `dialect.py` says which names a version has. It knows
no HTTP. Open `page.py` first.
"""
