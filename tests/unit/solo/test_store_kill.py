"""kill -9 at random moments: what was acknowledged is there, and revisions never go back."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path

from solo.store import Store

WRITER = """
import asyncio, sys
from solo.store import Key, Store

async def worker(store, number):
    for step in range(10_000):
        key = Key("pods", "ns", f"p{number}-{step % 20}")
        value = {"metadata": {"name": key.name}, "step": step, "pad": "x" * 500}
        if store.get(key) is None:
            stored = await store.create(key, value)
            kind = "put"
        elif step % 7 == 0:
            stored = await store.delete(key, None)
            kind = "del"
        else:
            stored = await store.update(key, value, None)
            kind = "put"
        sys.stdout.write(f"{stored.rv} {kind} {key.name} {step}\\n")
        sys.stdout.flush()

async def main():
    store = Store.open(sys.argv[1], max_events=200)
    print("open", flush=True)
    await asyncio.gather(*(worker(store, n) for n in range(8)))

asyncio.run(main())
"""


def run_and_kill(path: Path, seconds: float) -> list[tuple[int, str, str, int]]:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        lines = process.stdout.read().split("\n")[:-1]
    return [(int(rv), kind, name, int(step)) for rv, kind, name, step in (line.split() for line in lines)]


def test_everything_acknowledged_survives_kill(tmp_path):
    rng = random.Random(20_24)
    path = tmp_path / "state.db"
    newest = 0
    acknowledged = 0
    for _ in range(12):
        acks = run_and_kill(path, rng.uniform(0.005, 0.12))
        assert all(rv > newest for rv, *_ in acks), "a revision went back"
        store = Store.open(path)
        newest = max([newest, *(rv for rv, *_ in acks)])
        assert store.revision >= newest
        newest = store.revision
        last: dict[str, tuple[int, str, int]] = {}
        for rv, kind, name, step in sorted(acks):
            last[name] = (rv, kind, step)
        present = {stored.key.name: stored for stored in store.list("pods")[0]}
        for name, (rv, kind, step) in last.items():
            stored = present.get(name)
            # A later write that was committed but not yet acknowledged may have come on top.
            if stored is not None and stored.rv > rv:
                continue
            if kind == "del" or stored is None:
                logged = store._history.since("pods", rv)
                assert stored is None and (kind == "del" or any(e.stored.key.name == name for e in logged))
            else:
                assert stored.rv == rv and stored.obj["step"] == step
        acknowledged += len(acks)
        asyncio.run(store.close())
    assert acknowledged > 100
