"""Random operations and kills, which end in the state that the objects ask for; `make soak` does more of them."""

from __future__ import annotations

import os
import sys

import pytest

from e2e.cluster import Cluster
from e2e.soak import Soak
from e2e.soak_writer import Writer

OPERATIONS = int(os.environ.get("OPERATIONS", "25"))
# A guest takes long to boot under emulation: in a short run it would tell nothing.
WITHOUT_GUEST = 50
SEED = int(os.environ.get("SEED", "1"))


@pytest.mark.timeout(60 + 30 * OPERATIONS)
def test_the_cluster_ends_as_its_objects_say(runtime: Cluster, request: pytest.FixtureRequest) -> None:
    print(f"SEED={SEED} OPERATIONS={OPERATIONS}", file=sys.stderr, flush=True)
    writer = None
    if OPERATIONS > WITHOUT_GUEST:
        image = runtime.directory / "images" / "tiny.qcow2"
        image.write_bytes((request.getfixturevalue("guest") / "tiny.qcow2").read_bytes())
        writer = Writer(runtime, image)
    soak = Soak(runtime, SEED, writer)
    try:
        soak.run(OPERATIONS, lambda line: print(line, file=sys.stderr, flush=True))
        if writer is not None:
            writer.await_more()
    except BaseException as error:
        error.add_note("\n".join([f"SEED={SEED} OPERATIONS={OPERATIONS}", *soak.journal]))
        raise
