"""Which endpoints there are, from a file that is watched.

A source says everything first, may repeat itself and never judges: the store decides what changed.
Open `file.py` first, then `parse.py` for the format and `resolve.py` for host names.
"""

from epp.discovery.file import FileDiscovery
from epp.discovery.parse import parse_endpoints

__all__ = ["FileDiscovery", "parse_endpoints"]
