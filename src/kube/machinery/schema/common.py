"""What the parts of the schema compiler agree on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kube.machinery.errors import Cause

Node = dict[str, Any]


class _Missing:
    """There is no old value to compare with."""


MISSING = _Missing()

# value, old value or MISSING, path, errors (appended to)
Validator = Callable[[Any, Any, str, list[Cause]], None]
Check = Callable[[Any, str, list[Cause]], None]

NO_PATH = "<nil>"  # how field.ErrorList prints an error without a path


def type_names(node: Node) -> tuple[str, ...]:
    """The types that a schema allows; empty for any."""
    if node.get("x-kubernetes-int-or-string"):
        return ("integer", "string")
    declared = node.get("type") or ()
    return (declared,) if isinstance(declared, str) else tuple(declared)
