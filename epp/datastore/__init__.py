"""What we know about the pool: one writer, views for readers, the ledger of what we sent.

Only this room changes what is known; it opens no socket and reads no clock but the one it is given.
Open `store.py` first, then `account.py` for how our own dispatches correct what engines report.
"""

from epp.datastore.ledger import Reservation
from epp.datastore.report import Totals
from epp.datastore.sample import LoraState, Sample
from epp.datastore.settings import StoreSettings
from epp.datastore.store import Datastore

__all__ = ["Datastore", "LoraState", "Reservation", "Sample", "StoreSettings", "Totals"]
