"""May it go now?

Says when a request may be placed, never where. Open `gate.py` first.
"""

from epp.admission.gate import Gate, SheddingGate

__all__ = ["Gate", "SheddingGate"]
