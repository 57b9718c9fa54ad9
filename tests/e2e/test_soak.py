"""Random operations and kills, which end in the state that the objects ask for; `make soak` does more of them."""

from __future__ import annotations

import os
import sys

import pytest

from e2e.cluster import Cluster
from e2e.soak import Soak

OPERATIONS = int(os.environ.get("OPERATIONS", "25"))
SEED = int(os.environ.get("SEED", "1"))


@pytest.mark.timeout(60 + 30 * OPERATIONS)
def test_the_cluster_ends_as_its_objects_say(runtime: Cluster) -> None:
    print(f"SEED={SEED} OPERATIONS={OPERATIONS}", file=sys.stderr, flush=True)
    soak = Soak(runtime, SEED)
    try:
        soak.run(OPERATIONS, lambda line: print(line, file=sys.stderr, flush=True))
    except BaseException as error:
        error.add_note("\n".join([f"SEED={SEED} OPERATIONS={OPERATIONS}", *soak.journal]))
        raise
