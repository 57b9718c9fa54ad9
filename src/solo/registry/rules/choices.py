"""Fields that hold one of a few words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kube.machinery.errors import Cause, cause
from solo.registry.objects import quote


def one_of(value: Any, allowed: Sequence[str], field: str) -> list[Cause]:
    """What is wrong with a value that is none of those allowed, which are named in their order."""
    if value in allowed:
        return []
    detail = "supported values: " + ", ".join(map(quote, allowed))
    return [cause("FieldValueNotSupported", field, detail, quote(str(value or "")))]
