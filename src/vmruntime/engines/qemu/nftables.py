"""nftables in this process: the library behind `nft`, which comes with it.

Each start of a machine adds rules. That takes a millisecond in here, and ten with a process of its own.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache

LIBRARY = "libnftables.so.1"


class NftError(Exception):
    """A script was refused, as a whole; the message is the library's first line."""


class _Context:
    def __init__(self) -> None:
        library = ctypes.CDLL(LIBRARY)
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library = library
        self._context = library.nft_ctx_new(0)
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)
        self._lock = threading.Lock()

    def run(self, script: str) -> None:
        with self._lock:
            failed = self._library.nft_run_cmd_from_buffer(self._context, script.encode())
            text = (self._library.nft_ctx_get_error_buffer(self._context) or b"").decode(errors="replace")
        if failed:
            lines = [line for line in text.splitlines() if line]
            raise NftError(lines[0] if lines else "a script was refused")


@cache
def _context() -> _Context:
    return _Context()


def is_there() -> bool:
    """Whether the library is installed."""
    try:
        _context()
    except OSError:
        return False
    return True


def run(script: str) -> None:
    """Carry out a script, all of it or nothing. Blocking. Raises NftError."""
    _context().run(script)
