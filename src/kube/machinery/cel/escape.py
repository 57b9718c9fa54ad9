"""Field names that are no CEL identifiers, as Kubernetes escapes them.

`self.x__dash__kubernetes` means the field `x-kubernetes`, `self.__namespace__` the field `namespace`
(apiextensions v1, ValidationRule.rule). Values get such a field under its escaped name as well, if an expression
uses it.
"""

from __future__ import annotations

import re
from typing import Any

_RESERVED = (
    "true false null in as break const continue else for function if import let loop package namespace return "
    "var void while"
)
RESERVED = frozenset(_RESERVED.split())
_SYMBOLS = {"__underscores__": "__", "__dot__": ".", "__dash__": "-", "__slash__": "/"}
_SYMBOL = re.compile("|".join(_SYMBOLS))
_SELECTED = re.compile(r"\.\??(\w*__\w+)")


def unescape(identifier: str) -> str:
    """The field's name that an escaped identifier stands for; the identifier itself if it is not escaped."""
    if identifier.startswith("__") and identifier.endswith("__") and identifier[2:-2] in RESERVED:
        return identifier[2:-2]
    return _SYMBOL.sub(lambda match: _SYMBOLS[match[0]], identifier)


def find_aliases(expression: str) -> dict[str, str]:
    """Names of fields that an expression selects by an escaped name, with that name."""
    found = {}
    for identifier in _SELECTED.findall(expression):
        name = unescape(identifier)
        if name != identifier:
            found[name] = identifier
    return found


def add_aliases(value: Any, aliases: dict[str, str]) -> Any:
    """A copy of a value in which the aliased fields exist under both names."""
    if isinstance(value, dict):
        out = {key: add_aliases(item, aliases) for key, item in value.items()}
        out.update({aliases[key]: out[key] for key in value if key in aliases})
        return out
    if isinstance(value, list):
        return [add_aliases(item, aliases) for item in value]
    return value
