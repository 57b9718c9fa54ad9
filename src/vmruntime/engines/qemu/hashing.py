"""Checksums of what comes in, worked out by a thread of its own while more comes (hashlib lets other threads run)."""

from __future__ import annotations

import hashlib
import queue
import threading

ALGORITHMS = ("sha256", "sha512")
"""What a checksum may be of, as `ALGORITHM:HEX`."""

_BEHIND = 32
"""Pieces that may wait: as the hash is the slowest of what an import does at once, it must not hold up the rest."""


class Hasher:
    """SHA-256 of the pieces, and another of ALGORITHMS beside it where one is asked for. `close` ends its thread.

    A signal may end the caller inside any of these calls, and `close` has to work all the same: a SimpleQueue takes or
    hands out in one step, while an interrupted `Queue.put` can leave its reader asleep for ever.
    """

    def __init__(self, another: str = "") -> None:
        self._hashes = {name: hashlib.new(name) for name in ("sha256", another) if name}
        self._pieces: queue.SimpleQueue[bytes | threading.Event | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_BEHIND)
        self._worker: threading.Thread | None = None

    def update(self, piece: bytes) -> None:
        """Takes another piece into account; waits only where too many wait already."""
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="hash", daemon=True)
            self._worker.start()
        self._room.acquire()
        self._pieces.put(piece)

    def hexdigest(self, algorithm: str = "sha256") -> str:
        """Of all pieces up to now."""
        if self._worker is not None and self._worker.is_alive():
            reached = threading.Event()
            self._pieces.put(reached)
            reached.wait()
        return self._hashes[algorithm].hexdigest()

    def close(self) -> None:
        """Ends the thread; what was hashed up to now can still be asked for."""
        if self._worker is not None and self._worker.is_alive():
            self._pieces.put(None)
            self._worker.join()

    def _work(self) -> None:
        while (piece := self._pieces.get()) is not None:
            if isinstance(piece, threading.Event):
                piece.set()
                continue
            for each in self._hashes.values():
                each.update(piece)
            self._room.release()
