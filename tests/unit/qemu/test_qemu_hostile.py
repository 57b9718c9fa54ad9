"""A QEMU that its guest has taken over: what it says and leaves in its directory harms nobody but itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from vmruntime.engines.qemu import live_disks, shutdown
from vmruntime.engines.qemu.config import STOPPED_WITH_CLUSTER
from vmruntime.engines.qemu.qmp import QmpError


class Says:
    """A monitor with one answer to everything."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def execute(self, _command: str, _arguments: Any = None) -> Any:
        return self.answer

    async def status(self) -> str:
        return str(self.answer)

    async def quit(self) -> None:
        pass


@pytest.mark.parametrize("answer", [None, 7, ["text"], [[]], [{"inserted": "text"}]], ids=str)
async def test_an_answer_about_drives_that_is_none(answer: Any) -> None:
    with pytest.raises(QmpError):
        await live_disks.drives(Says(answer))  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["disks", "/disks", "disks/", "a/disks", ""])
async def test_the_path_of_a_drive_that_is_no_disk_of_ours(path: str) -> None:
    (drive,) = await live_disks.drives(Says([{"inserted": {"file": path}}]))  # type: ignore[arg-type]
    assert drive.disk == ""


async def test_a_link_in_its_directory_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who stops a cluster may be root, and the directory is QEMU's own."""

    @asynccontextmanager
    async def connect(_instance: Path) -> AsyncIterator[Says]:
        yield Says(shutdown.GUEST_OFF)

    monkeypatch.setattr(shutdown, "connect", connect)
    mark = tmp_path / "instances" / "ns_vm_uid" / STOPPED_WITH_CLUSTER
    mark.parent.mkdir(parents=True)
    mark.symlink_to(tmp_path / "nologin")
    assert await shutdown.shut_down_all(tmp_path, 1) == []
    assert mark.is_file() and not mark.is_symlink()
    assert not (tmp_path / "nologin").exists()
