"""`python -m solo.node.teardown --data DIR`: end the processes of a stopped server's pods.

Their records stay, so that the next start tells of them as ended and starts those that should run. Exit code 1, with
the pods named on stderr, if a process does not die.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from solo.node import records, stray
from solo.node.cgroups import find_hierarchies
from solo.node.records import PodRecord


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m solo.node.teardown", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the server's data directory")
    parser.add_argument("--namespace", metavar="NS", help="only pods of this namespace")
    parser.add_argument("--except", dest="spared", metavar="NAME", help="not the pod of this name")
    parser.add_argument("--grace", type=float, default=10.0, metavar="S", help="seconds to end by themselves")
    args = parser.parse_args()
    found = [(entry, records.load(entry)) for entry in sorted((args.data / "pods").glob("*")) if entry.is_dir()]
    chosen = [
        (entry, record)
        for entry, record in found
        if record and args.namespace in (None, record.namespace) and record.name != args.spared
    ]
    alive = asyncio.run(end_all(chosen, args.grace))
    if alive:
        print(f"these pods have processes that do not die: {', '.join(alive)}", file=sys.stderr)
    return 1 if alive else 0


async def end_all(pods: Sequence[tuple[Path, PodRecord]], grace: float) -> list[str]:
    """End pods (directory and record) together; returns `namespace/name` of those that would not."""
    hierarchies = find_hierarchies()
    ended = await asyncio.gather(*(stray.end(entry, record, hierarchies, grace) for entry, record in pods))
    return [f"{record.namespace}/{record.name}" for (_, record), gone in zip(pods, ended, strict=True) if not gone]


if __name__ == "__main__":
    sys.exit(main())
