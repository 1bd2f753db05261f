"""May it go now?

Says when a request may be placed, never where. Open `gate.py` first: without flow control it is all
there is. With it, `machine.py` is the queue and `control.py` its timer and futures.
"""

from epp.admission.control import FlowControl, FlowReports
from epp.admission.eviction import Eviction
from epp.admission.gate import Gate, SheddingGate
from epp.admission.settings import BandSettings, FlowSettings

__all__ = [
    "BandSettings",
    "Eviction",
    "FlowControl",
    "FlowReports",
    "FlowSettings",
    "Gate",
    "SheddingGate",
]
