"""`epp demo`: real Envoy, the picker and simulators on loopback, with traffic and a summary.

It starts processes and is a client of them, nothing more: what it shows is what the real programs
did. Open `command.py` first.
"""

from epp.cli.demo.command import command

__all__ = ["command"]
