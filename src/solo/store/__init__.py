"""Objects of the one-machine API server: in memory for readers, in SQLite for good.

A write is decided on the event loop, committed to disk (many writes share one fsync) and only then becomes visible to
readers and watchers. So nothing that anybody has seen can be lost by `kill -9` or a power cut.
"""

from solo.store.database import StoreError
from solo.store.model import Event, Key, Stored, with_revision
from solo.store.store import Overtaken, Store
from solo.store.watch import Watch

__all__ = ["Event", "Key", "Overtaken", "Store", "StoreError", "Stored", "Watch", "with_revision"]
