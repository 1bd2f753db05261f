"""Where the simulator may differ from vLLM, and why. Everything else fails the check."""

from __future__ import annotations

from check_sim.verdict import Allowed

ALLOWED: tuple[Allowed, ...] = (
    Allowed("python_*", "the interpreter's own numbers, not the model server's"),
    Allowed("process_*", "the process's own numbers, not the model server's"),
    Allowed("http_*", "counts of the web framework, not the model server's"),
)
