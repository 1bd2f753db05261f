"""The policies others route by, each faithful to what it names, defects included.

`BASELINES` maps a name to a configuration; those that differ in who may go, not only in where, are
in `OVERLOAD`, all together in `POLICIES`; plugins that only the lab has are in `PLUGINS`.
Nothing here serves: it is here to be compared with. Open `table.py` first.
"""

from epp_lab.baselines.overload import GO_QUEUES, OVERLOAD, POLICIES
from epp_lab.baselines.table import BASELINES, PLUGINS, Baseline

__all__ = ["BASELINES", "GO_QUEUES", "OVERLOAD", "PLUGINS", "POLICIES", "Baseline"]
