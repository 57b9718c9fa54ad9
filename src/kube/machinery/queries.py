"""Parameters in the query of a URL, as apimachinery reads them (`pkg/runtime/conversion.go`)."""

from __future__ import annotations

from collections.abc import Mapping


def flag(query: Mapping[str, str], name: str) -> bool:
    """Whether a parameter is true: it is there, and neither `0` nor `false`. So `?watch` is, and `?watch=` too."""
    value = query.get(name)
    return value is not None and value != "0" and value.lower() != "false"
