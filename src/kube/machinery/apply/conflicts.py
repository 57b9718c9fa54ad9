"""Conflicts: somebody applies a value for a field that somebody else owns (managedfields/internal/conflict.go)."""

from __future__ import annotations

from typing import NamedTuple

from kube.machinery.apply.elements import show_path, sort_key
from kube.machinery.apply.fieldset import FieldSet, Path
from kube.machinery.apply.managers import ManagerKey
from kube.machinery.errors import StatusError


class Conflict(NamedTuple):
    """One field and one of its other owners."""

    path: Path
    owner: ManagerKey


def find_conflicts(owned: dict[ManagerKey, FieldSet], changed: FieldSet) -> list[Conflict]:
    """Who owns what of the changed fields, ordered by field."""
    found = [Conflict(path, owner) for owner, fields in owned.items() for path in fields.intersection(changed).paths()]
    return sorted(found, key=lambda conflict: (tuple(map(sort_key, conflict.path)), conflict.owner))


def conflict_error(conflicts: list[Conflict]) -> StatusError:
    """409 with one cause per conflict."""
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {conflict.owner}",
            "field": show_path(conflict.path),
        }
        for conflict in conflicts
    ]
    return StatusError(409, "Conflict", _message(conflicts), {"causes": causes})


def _message(conflicts: list[Conflict]) -> str:
    if len(conflicts) == 1:
        path, owner = conflicts[0]
        return f"Apply failed with 1 conflict: conflict with {owner}: {show_path(path)}"
    by_owner: dict[ManagerKey, list[str]] = {}
    for path, owner in conflicts:
        by_owner.setdefault(owner, []).append(f"- {show_path(path)}")
    lines = []
    for owner in sorted(by_owner, key=lambda key: (key.manager, key)):
        lines += [f"conflicts with {owner}:", *by_owner[owner]]
    return f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)
