"""Where tests keep what is slow to make or to fetch: outside the tree, so every checkout finds it.

`EPP_CACHE`, else `epp` in the user's cache folder as the XDG base directories have it.
"""

import os
from pathlib import Path


def kept(name: str) -> Path:
    """The folder for one kind of thing. It need not exist yet."""
    chosen = os.environ.get("EPP_CACHE")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(chosen) if chosen else home / "epp") / name
