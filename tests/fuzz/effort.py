"""How hard to try: the same few examples in every run of `make test`, many and new ones in `make fuzz`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FACTOR = int(os.environ.get("FUZZ", "1"))


def effort(examples: int) -> settings:
    """Settings of a property: `examples` of a fixed seed, or FUZZ times as many at random."""
    return settings(
        max_examples=examples * FACTOR,
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
