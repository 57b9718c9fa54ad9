"""Files of the engine: disks get their place in one step, from any half-way state, and never in place of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vmruntime.engines.common import Ref
from vmruntime.engines.disk import DiskPhase, DiskRequest
from vmruntime.engines.qemu import images
from vmruntime.engines.qemu.engine_disks import Disks
from vmruntime.engines.qemu.engine_layout import Layout

MIB = 1 << 20
REQUEST = DiskRequest(Ref("ns", "d", "uid-1"), MIB, "raw")


class NoPods:
    async def of(self, _ref: Ref) -> list[Any]:
        return []


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path, None)
    layout.prepare()
    return layout


@pytest.fixture
def disks(layout: Layout) -> Disks:
    return Disks(None, layout, NoPods(), layout.root)  # type: ignore[arg-type]


async def test_a_blank_disk(disks: Disks, layout: Layout) -> None:
    await disks.ensure(REQUEST)
    seen = await disks.observe(REQUEST.ref)
    assert (seen.phase, seen.format, seen.virtual_size) == (DiskPhase.READY, "raw", MIB)
    assert [path.name for path in layout.disk(REQUEST.ref).iterdir()] == ["disk.raw"]


async def test_a_disk_whose_maker_was_killed_before_it_had_its_place(disks: Disks, layout: Layout) -> None:
    (layout.make_imports(REQUEST.ref) / "disk.raw").write_bytes(b"whole")
    assert (await disks.observe(REQUEST.ref)).phase is DiskPhase.ABSENT
    await disks.ensure(REQUEST)
    assert (layout.disk(REQUEST.ref) / "disk.raw").read_bytes() == b"whole"
    assert not layout.imports(REQUEST.ref).exists()


@pytest.mark.parametrize("atomic", [True, False], ids=["renameat2", "without"])
async def test_a_disk_never_takes_the_place_of_another(
    disks: Disks, layout: Layout, monkeypatch: pytest.MonkeyPatch, atomic: bool
) -> None:
    """As where two managers make the same one, and a machine has written to the first by then."""
    make = images.create_blank

    def make_late(*arguments: Any) -> None:
        make(*arguments)
        (layout.disk(REQUEST.ref) / "disk.raw").write_bytes(b"somebody's data")

    monkeypatch.setattr(images, "create_blank", make_late)
    if not atomic:
        monkeypatch.setattr("vmruntime.engines.qemu.files._NO_REPLACE", 1 << 20)  # no file system knows this flag
    with pytest.raises(FileExistsError):
        await disks.ensure(REQUEST)
    assert (layout.disk(REQUEST.ref) / "disk.raw").read_bytes() == b"somebody's data"
    assert (await disks.observe(REQUEST.ref)).phase is DiskPhase.READY


def test_the_console_program_is_replaced_as_a_whole_and_only_when_it_changed(layout: Layout) -> None:
    program = layout.root / "console.py"
    first = program.stat()
    assert first.st_mode & 0o777 == 0o644
    layout.prepare()
    assert program.stat().st_ino == first.st_ino
    whole = program.read_bytes()
    program.write_bytes(b"of a former version")
    with program.open("rb") as running:
        layout.prepare()
        assert running.read() == b"of a former version"
    assert program.read_bytes() == whole
