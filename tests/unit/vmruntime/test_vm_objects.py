"""Small steps on API objects: what counts as being as wanted, and what a machine is told before it is deleted."""

from __future__ import annotations

from typing import Any

import pytest

from vmruntime.api import names
from vmruntime.controllers.objects import _contains
from vmruntime.controllers.runtime import _last_will


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": {"b": 1, "server": "default"}}, {"a": {"b": 1}}, True),
        ({"a": [{"b": 1, "server": "default"}]}, {"a": [{"b": 1}]}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": "x"}, {"a": {"b": 1}}, False),
        ({}, {"a": []}, False),
    ],
)
def test_what_counts_as_being_as_wanted(found: Any, wanted: Any, expected: bool) -> None:
    assert _contains(found, wanted) is expected


@pytest.mark.parametrize(("keep", "value"), [(True, None), (False, "true")])
def test_a_machine_that_nobody_has_looked_at_yet_takes_its_disks_along(keep: bool, value: str | None) -> None:
    vm = {"metadata": {"name": "m", "uid": "u", "resourceVersion": "5", "finalizers": ["other"]}}
    metadata = _last_will(vm, keep)["metadata"]
    assert metadata["finalizers"] == ["other", names.VM_FINALIZER]
    assert metadata["annotations"] == {names.DELETE_DISKS_ANNOTATION: value}
    assert (metadata["uid"], metadata["resourceVersion"]) == ("u", "5")
    vm["metadata"]["finalizers"] = [names.VM_FINALIZER]
    assert _last_will(vm, keep)["metadata"]["finalizers"] == [names.VM_FINALIZER]
