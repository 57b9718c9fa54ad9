"""What `bmctl reset` deletes."""

from __future__ import annotations

from pathlib import Path

from vmruntime.cli.bmctl import reset
from vmruntime.cli.bmctl.workspace import Cluster


def test_a_cluster_behind_a_link_goes_with_its_link(tmp_path: Path) -> None:
    moved, link = tmp_path / "roomy" / "one", tmp_path / "workspace" / "one"
    (moved / "vm").mkdir(parents=True)
    (moved.parent / "other").touch()
    link.parent.mkdir()
    link.symlink_to(moved)
    reset._delete(Cluster("one", link))
    assert [path.name for path in moved.parent.iterdir()] == ["other"]
    assert list(link.parent.iterdir()) == []


def test_links_in_a_cluster_are_not_followed(tmp_path: Path) -> None:
    directory, images = tmp_path / "one", tmp_path / "images"
    directory.mkdir()
    images.mkdir()
    (images / "precious.img").touch()
    (directory / "images").symlink_to(images)
    reset._delete(Cluster("one", directory))
    assert not directory.exists()
    assert (images / "precious.img").exists()
