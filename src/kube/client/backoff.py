"""How long to wait before trying again: doubling, bounded, and never in step with the other clients."""

from __future__ import annotations

import random

_MOST_DOUBLINGS = 30


def backoff(failures: int, first: float, limit: float) -> float:
    """About `doubled` seconds.

    A fifth more or less by chance, so that clients which lost one server do not all come back at once.
    """
    return doubled(failures, first, limit) * random.uniform(0.8, 1.2)


def doubled(failures: int, first: float, limit: float) -> float:
    """Seconds after the `failures`-th failure in a row (counted from 1): `first`, doubling up to `limit`."""
    doublings = min(max(failures, 1) - 1, _MOST_DOUBLINGS)
    return min(first * 2.0**doublings, limit)
