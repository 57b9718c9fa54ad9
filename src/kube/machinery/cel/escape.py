"""Field names that are no CEL identifiers, as Kubernetes escapes them.

`self.x__dash__kubernetes` means the field `x-kubernetes`, `self.__namespace__` the field `namespace`
(apiextensions v1, ValidationRule.rule). Values get such a field under its escaped name as well, if an expression
uses it.
"""

from __future__ import annotations

import re

_RESERVED = (
    "true false null in as break const continue else for function if import let loop package namespace return "
    "var void while"
)
RESERVED = frozenset(_RESERVED.split())
_SYMBOLS = {"__underscores__": "__", "__dot__": ".", "__dash__": "-", "__slash__": "/"}
_SYMBOL = re.compile("|".join(_SYMBOLS))


def unescape(identifier: str) -> str:
    """The field's name that an escaped identifier stands for; the identifier itself if it is not escaped."""
    if identifier.startswith("__") and identifier.endswith("__") and identifier[2:-2] in RESERVED:
        return identifier[2:-2]
    return _SYMBOL.sub(lambda match: _SYMBOLS[match[0]], identifier)
